"""load_audio on real files of many formats, good and bad."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from nemo_triton import audio
from nemo_triton.audio import load_audio, seconds
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import AudioError

pytestmark = pytest.mark.fast


def tone(rate: int, duration: float = 1.0, hertz: float = 440.0) -> NDArray[np.float64]:
    """A sine of half scale, float [T]."""
    wave: NDArray[np.float64] = np.sin(2 * np.pi * hertz * np.arange(int(rate * duration)) / rate)
    return 0.5 * wave


def loudest_hertz(samples: NDArray[Any]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / len(samples)


def noise(count: int = 16001) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-32768, 32768, count, dtype=np.int16)


@pytest.mark.parametrize("ending", ["wav", "flac", "aiff", "au", "w64", "caf"])
def test_16_bit_16_khz_mono_is_unchanged(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, noise(), SAMPLE_RATE, subtype="PCM_16")
    loaded = load_audio(path)
    assert loaded.dtype == np.int16
    np.testing.assert_array_equal(loaded, noise())


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_any_rate_keeps_pitch_level_and_duration(tmp_path: Path, ending: str, channels: int, rate: int) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, np.stack([tone(rate)] * channels, axis=1), rate)
    loaded = load_audio(path)
    assert loaded.dtype == np.int16 and loaded.ndim == 1
    assert seconds(loaded) == pytest.approx(1.0, abs=0.1 if ending == "mp3" else 0.001)
    assert loudest_hertz(loaded) == pytest.approx(440, abs=1.5)
    middle = loaded[4000:12000].astype(float)
    assert np.abs(middle).max() == pytest.approx(16384, rel=0.1 if ending in ("mp3", "ogg") else 0.01)


def test_resampling_removes_frequencies_above_8_khz(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(48000, hertz=12000), 48000)
    assert np.abs(load_audio(path)[1000:-1000]).max() < 33, "12 kHz must not fold down to 4 kHz"


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([[1000, 3000], [-7, -9], [32767, -32767]], np.int16), SAMPLE_RATE)
    assert load_audio(path).tolist() == [2000, -8, 0]


def test_24_bit_is_rounded_not_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    # libsndfile writes the upper 24 of 32 bits: 256 of their steps are one 16-bit step.
    upper = np.array([100, 100, -100, 0], np.int32) * 256 + np.array([127, 129, -129, 255])
    soundfile.write(path, (upper * 256).astype(np.int32), SAMPLE_RATE, subtype="PCM_24")
    assert load_audio(path).tolist() == [100, 101, -101, 1]


def test_24_bit_full_scale_does_not_wrap(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([2**31 - 256, -(2**31)], np.int32), SAMPLE_RATE, subtype="PCM_24")
    assert load_audio(path).tolist() == [32767, -32768]


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_beyond_full_scale_is_clipped(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.wav"
    samples = np.array([0.0, 0.5, 1.0, 1.5, -1.0, -1.5, 100.0, -100.0])
    soundfile.write(path, samples, SAMPLE_RATE, subtype=subtype)
    assert load_audio(path).tolist() == [0, 16384, 32767, 32767, -32768, -32768, 32767, -32768]


def test_overshoot_of_the_resampler_is_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    square = np.where(np.arange(48000) // 240 % 2, -1.0, 1.0)
    soundfile.write(path, square, 48000, subtype="FLOAT")
    loaded = load_audio(path)
    assert {loaded.max(), loaded.min()} == {32767, -32768}, "resampling overshoots, so it must clip"
    high, low = loaded[20:60], loaded[100:140]
    assert high.min() > 30000 and low.max() < -30000


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_file_without_samples_is_an_empty_array(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((0, 2)), rate)
    loaded = load_audio(path)
    assert loaded.shape == (0,) and loaded.dtype == np.int16


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    if kind == "empty":
        path.touch()
    elif kind == "prose":
        path.write_text("these are words about audio\n" * 20)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("nan", "inf"):
        soundfile.write(path, np.array([0.1, float(kind), 0.2]), SAMPLE_RATE, subtype="FLOAT")
    elif kind == "cut":
        path = path.with_suffix(".flac")
        soundfile.write(path, noise(), SAMPLE_RATE)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "headerless":
        path = path.with_suffix(".raw")
        path.write_bytes(noise().tobytes())
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("empty", "0 bytes"),
        ("prose", "not readable as audio"),
        ("folder", "is a folder"),
        ("nan", "NaN or infinite"),
        ("inf", "NaN or infinite"),
        ("cut", "not readable as audio"),
        ("headerless", "not readable as audio"),
    ],
)
def test_the_error_for_a_bad_file_is_one_line_with_its_name(tmp_path: Path, kind: str, says: str) -> None:
    path = bad_file(tmp_path, kind)
    with pytest.raises(AudioError) as caught:
        load_audio(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and says in message and "\n" not in message
    assert "; " in message, "the message says what to do"


def test_gsm_which_has_no_positions_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(8000), 8000, subtype="GSM610")
    assert loudest_hertz(load_audio(path)) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("claimed", [0, 2**30, 2**36 - 1])
def test_a_header_that_claims_more_samples_than_memory(claimed: int, tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(), SAMPLE_RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    # FLAC: 36 bits from the middle of byte 21 have the number of samples; 0 if it is not known.
    content[21:26] = (claimed | content[21] >> 4 << 36).to_bytes(5, "big")
    path.write_bytes(content)
    with pytest.raises(
        AudioError, match="has more than 536,870,912 samples, or a header without their number; split it"
    ):
        load_audio(path)


@pytest.mark.parametrize("rate", [0, 1])
def test_a_rate_at_which_audio_does_not_fit_in_memory(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(audio.LARGEST_SAMPLES // 2**13, np.int16), 1, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"a\.wav: .*({rate} Hz|not readable as audio)"):
        load_audio(path)


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", Path("/dev/zero")):
        with pytest.raises(AudioError, match="is a pipe or a device, not an audio file"):
            load_audio(path)


@pytest.mark.parametrize("name", ["a\nb.wav", "\x1b[2J.wav", "\ud800.wav", "a\0.wav"])
def test_the_error_for_an_odd_name_is_one_printable_line(name: str) -> None:
    with pytest.raises(AudioError, match="no such file") as caught:
        load_audio(name)
    assert str(caught.value).isprintable()
