"""load_audio on real files of many formats, good and bad."""

import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import soxr
from audio_formats import write_all
from numpy.typing import NDArray

from nemo_triton.audio import Channel, as_float, load_audio, load_channels, seconds
from nemo_triton.audio_decoders import limits
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import AudioError
from verification.encoding import ENCODED, encode

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def warnings_are_logged() -> Iterator[None]:
    """Let warnings be logged: programs that other tests call in this process disable them."""
    level = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    yield
    logging.disable(level)


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
    unchanged = (ending, channels, rate) in (("wav", 1, 16000), ("flac", 1, 16000))
    assert loaded.dtype == (np.int16 if unchanged else np.float32) and loaded.ndim == 1
    assert seconds(loaded) == pytest.approx(1.0, abs=0.1 if ending == "mp3" else 0.001)
    assert loudest_hertz(as_float(loaded)) == pytest.approx(440, abs=1.5)
    middle = as_float(loaded)[4000:12000]
    assert np.abs(middle).max() == pytest.approx(0.5, rel=0.1 if ending in ("mp3", "ogg") else 0.01)


def test_resampling_removes_frequencies_above_8_khz(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(48000, hertz=12000), 48000)
    assert np.abs(load_audio(path)[1000:-1000]).max() < 1e-3, "12 kHz must not fold down to 4 kHz"


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
@pytest.mark.parametrize("samples", [1, 7, 999, 4001])
def test_resampling_rounds_the_length_up(tmp_path: Path, rate: int, samples: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(samples, 0.5), rate)
    assert len(load_audio(path)) == -(-samples * SAMPLE_RATE // rate), "as librosa does for NeMo"


def test_channels_are_averaged_without_rounding(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([[1000, 3000], [-7, -10], [32767, 32767]], np.int16), SAMPLE_RATE)
    assert (load_audio(path) * 32768).tolist() == [2000, -8.5, 32767]


@pytest.mark.parametrize(("channel", "expected"), [("left", 0), ("right", 1), (0, 0), (1, 1), (2, 2)])
def test_a_chosen_channel_is_unchanged(tmp_path: Path, channel: Channel, expected: int) -> None:
    path = tmp_path / "a.wav"
    samples = np.arange(-9, 9, dtype=np.int16).reshape(-1, 3)
    soundfile.write(path, samples, SAMPLE_RATE)
    loaded = load_audio(path, channel=channel)
    assert loaded.dtype == np.int16 and loaded.tolist() == samples[:, expected].tolist()
    assert [each.tolist() for each in load_channels(path)] == samples.T.tolist()


@pytest.mark.parametrize(
    ("channel", "channels", "says"), [(1, 1, "1 channel (mono)"), ("right", 1, "no channel 1"), (2, 2, "2 channels")]
)
def test_a_channel_that_is_not_there(tmp_path: Path, channel: Channel, channels: int, says: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((99, channels), np.int16), SAMPLE_RATE)
    with pytest.raises(AudioError, match=re.escape(says)):
        load_audio(path, channel=channel)


@pytest.mark.parametrize("channel", ["middle", -1, 0.5, None, True])
def test_an_unknown_channel_is_an_error_of_the_caller(tmp_path: Path, channel: Any) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((99, 2), np.int16), SAMPLE_RATE)
    with pytest.raises(ValueError, match="give a number from 0, or left, right or average"):
        load_audio(path, channel=channel)


@pytest.mark.parametrize(
    ("others", "cancels"),
    [([-1.0], True), ([-0.8], True), ([1.0], False), ([0.0], False), ([0.0] * 15, False), ([-0.3], False)],
)
def test_channels_that_cancel_each_other_are_said(
    tmp_path: Path, others: list[float], cancels: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.wav"
    first = tone(16000)
    soundfile.write(path, np.stack([first, *(factor * first for factor in others)], axis=1), SAMPLE_RATE)
    load_audio(path)
    warnings = [f"{path}: its 2 channels cancel each other when averaged; choose one with --channel"] if cancels else []
    assert caplog.messages == warnings
    caplog.clear()
    load_audio(path, channel=0)
    assert caplog.messages == []


def test_24_bits_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    # libsndfile writes the upper 24 of 32 bits.
    steps = np.array([1, -1, 127, -(2**23), 2**23 - 1], np.int32)
    soundfile.write(path, steps * 256, SAMPLE_RATE, subtype="PCM_24")
    assert (load_audio(path) * 2**23).tolist() == steps.tolist()


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_samples_keep_their_level(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.wav"
    samples = np.array([0.0, 0.5, 1.5, -100.0, 32767.0, 1e-7], np.float32)
    soundfile.write(path, samples, SAMPLE_RATE, subtype=subtype)
    assert load_audio(path).tolist() == samples.tolist()


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "PCM_U8", "PCM_16"])
def test_what_16_bits_hold_stays_16_bit(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16000), SAMPLE_RATE, subtype=subtype)
    loaded = load_audio(path)
    assert loaded.dtype == np.int16
    np.testing.assert_array_equal(as_float(loaded), soundfile.read(path, dtype="float32")[0])


@pytest.fixture(scope="module")
def in_every_format(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Six seconds of a tone in every format, by file name."""
    # With noise, because the codecs' headers are longer than a compressed tone.
    recording = tone(16000, 6.0) + noise(96000) * 3e-6
    return {file.name: file for file in write_all(recording.astype(np.float32), tmp_path_factory.mktemp("formats"))}


@pytest.mark.parametrize("name", [*ENCODED, "messenger.opus"])
def test_what_phones_and_browsers_record(in_every_format: dict[str, Path], name: str) -> None:
    loaded = load_audio(in_every_format[name])
    assert seconds(loaded) == pytest.approx(6.0, abs=0.15), "encoders add a little silence"
    assert loudest_hertz(loaded) == pytest.approx(440, abs=3)
    assert np.sqrt(np.square(loaded[8000:24000]).mean()) == pytest.approx(0.354, rel=0.2)


def test_video_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(path, "w") as output:
        stream: Any = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        output.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        output.mux(stream.encode(None))
    with pytest.raises(AudioError, match="has no audio"):
        load_audio(path)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", tone(16000), SAMPLE_RATE)
    for name, content in {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "list.mp4": f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n",
    }.items():
        path = tmp_path / name
        path.write_text(content)
        with pytest.raises(AudioError, match="not readable as audio"):
            load_audio(path)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3", "GSM", "M4A"])
def test_segments(tmp_path: Path, container: str) -> None:
    path = tmp_path / f"a.{container.lower()}"
    first, second = tone(8000, 1.0, hertz=440).astype(np.float32), tone(8000, 1.0, hertz=880).astype(np.float32)
    both = np.concatenate([first, second])
    if container == "M4A":
        encode(soxr.resample(both, 8000, 16000), path, codec="aac", rate=44100, container="mp4")
    elif container == "GSM":
        soundfile.write(path, both, 8000, subtype="GSM610", format="WAV")
    else:
        soundfile.write(path, both, 8000, format=container)
    for offset, hertz in ((0.1, 440), (1.15, 880)):
        loaded = load_audio(path, offset=offset, duration=0.75)
        assert len(loaded) == pytest.approx(0.75 * SAMPLE_RATE, abs=1)
        assert loudest_hertz(as_float(loaded)) == pytest.approx(hertz, abs=4)


def test_a_segment_is_read_without_the_rest_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.flac"
    samples = noise(20 * SAMPLE_RATE)
    soundfile.write(path, samples, SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    # A segment of a file that is too large as a whole.
    monkeypatch.setattr(limits, "LARGEST_SAMPLES", SAMPLE_RATE)
    assert load_audio(path, offset=3.0, duration=0.5).tolist() == samples[48000:56000].tolist()
    assert caplog.messages == [], "damage elsewhere does not matter"
    with pytest.raises(AudioError, match="has more than 16,000 samples; split it"):
        load_audio(path, offset=3.0)


def test_a_segment_is_rounded_down_to_samples_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    samples = np.arange(16000, dtype=np.int16)
    soundfile.write(path, samples, SAMPLE_RATE)
    loaded = load_audio(path, offset=0.10003, duration=0.20009)
    assert loaded.tolist() == samples[1600 : 1600 + 3201].tolist(), "as NeMo's AudioSegment does"
    assert load_audio(path, offset=0.5).tolist() == samples[8000:].tolist()


@pytest.mark.parametrize(
    "segment", [{"offset": -1.0}, {"offset": math.nan}, {"duration": -0.5}, {"duration": math.inf}]
)
def test_segments_that_are_none_are_errors_of_the_caller(tmp_path: Path, segment: dict[str, Any]) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(160), SAMPLE_RATE)
    with pytest.raises(ValueError, match=f"^{next(iter(segment))} is .*; give seconds from 0$"):
        load_audio(path, **segment)


def test_segments_beyond_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(16000), SAMPLE_RATE)
    with pytest.raises(AudioError, match=r"offset 1 s is beyond its end at 1\.0 s; correct the offset"):
        load_audio(path, offset=1.0)
    assert len(load_audio(path, offset=0.9, duration=0.15)) == 1600 and caplog.messages == [], "durations are rounded"
    assert len(load_audio(path, offset=0.5, duration=2.0)) == 8000
    assert caplog.messages == [f"{path}: ends 1.5 s before the segment's end (offset 0.5 s, duration 2 s)"]


@pytest.mark.parametrize("time", [1e305, 1e18])
def test_times_that_no_file_reaches(time: float, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(16000), SAMPLE_RATE)
    with pytest.raises(AudioError, match=r"offset 1e\+\d+ s is beyond its end at 1\.0 s; correct the offset"):
        load_audio(path, offset=time)
    assert len(load_audio(path, duration=time)) == 16000
    assert len(caplog.messages) == 1 and "before the segment's end" in caplog.messages[0]


def damaged(source: Path, folder: Path, kind: str) -> Path:
    """The first half of a file of six seconds, or a file whose recorder died before it wrote the number of samples."""
    path = folder / kind
    if kind.startswith(("cut", "dead")):
        soundfile.write(path, soundfile.read(source)[0], SAMPLE_RATE)
    else:
        path.write_bytes(source.with_name(kind).read_bytes())
    content = bytearray(path.read_bytes())
    if kind == "dead.wav":
        size = content.index(b"data") + 4
        content[4:8] = content[size : size + 4] = bytes(4)
    else:
        content = content[: len(content) // 2]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("cut.wav", "its header says 192,000 bytes of samples, but there are"),
        ("cut.aiff", "its header says"),
        ("cut.au", "its header says"),
        ("cut.flac", "it is damaged"),
        ("cut.ogg", "its last page is missing"),
        ("dead.wav", "its header says 0 s"),
        ("music.mp3", "its header says 6.0 s"),
        ("messenger.opus", "its last page is missing"),
        ("browser.webm", "its header says 6.0 s"),
        ("raw.aac", "it is damaged"),
        ("phone.amr", "it is damaged"),
    ],
)
def test_the_readable_part_of_a_damaged_file_is_used_and_said(
    tmp_path: Path,
    in_every_format: dict[str, Path],
    kind: str,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = damaged(in_every_format["16_bit.wav"], tmp_path, kind)
    loaded = load_audio(path)
    assert seconds(loaded) == pytest.approx(6.0 if kind == "dead.wav" else 3.0, abs=1.1)
    assert loudest_hertz(as_float(loaded)) == pytest.approx(440, abs=3)
    (message,) = caplog.messages
    assert message.startswith(f"{path}: {reason}") and message.endswith(
        f"; the {seconds(loaded):.1f} s that can be read are used"
    )


@pytest.mark.parametrize("kind", ["music.mp3", "16_bit.flac", "phone.m4a"])
def test_audio_after_a_damage_is_read(
    tmp_path: Path, in_every_format: dict[str, Path], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / kind
    if kind.endswith(".flac"):
        soundfile.write(path, soundfile.read(in_every_format["16_bit.wav"])[0], SAMPLE_RATE)
    else:
        path.write_bytes(in_every_format[kind].read_bytes())
    content = bytearray(path.read_bytes())
    middle, damage = len(content) // 3, noise(len(content) // 20).tobytes()
    content[middle : middle + len(damage)] = damage
    path.write_bytes(content)
    assert 4.5 < seconds(load_audio(path)) < 6.2
    (message,) = caplog.messages
    assert message.startswith(f"{path}: it")


def test_a_video_longer_than_its_sound_has_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mp4"
    encode(tone(16000, 2.0).astype(np.float32), tmp_path / "sound.m4a", codec="aac", rate=44100, container="mp4")
    with av.open(tmp_path / "sound.m4a") as sound, av.open(path, "w") as output:
        video: Any = output.add_stream("mpeg4", rate=10)
        video.width = video.height = 16
        audio = output.add_stream_from_template(sound.streams.audio[0])
        for number in range(60):
            frame = av.VideoFrame(16, 16, "yuv420p")
            frame.pts = number
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for packet in sound.demux(sound.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = audio
                output.mux(packet)
    assert seconds(load_audio(path)) == pytest.approx(2.0, abs=0.15)
    assert caplog.messages == []


def test_complete_files_have_no_warning(
    tmp_path: Path, in_every_format: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    for file in in_every_format.values():
        load_audio(file)
    stream = tmp_path / "stream.wav"
    content = bytearray(in_every_format["16_bit.wav"].read_bytes())
    size = content.index(b"data") + 4
    content[4:8] = content[size : size + 4] = b"\xff" * 4
    stream.write_bytes(content)
    assert seconds(load_audio(stream)) == 6.0, "ffmpeg writes such headers into a pipe"
    assert caplog.messages == []


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_file_without_samples_is_an_empty_array(tmp_path: Path, rate: int, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((0, 2)), rate)
    loaded = load_audio(path)
    assert loaded.shape == (0,)
    assert caplog.messages == [f"{path}: has no samples; record or copy it again"]


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
def test_a_header_with_a_wrong_number_of_samples(
    claimed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(), SAMPLE_RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    # FLAC: 36 bits from the middle of byte 21 have the number of samples; 0 if it is not known.
    content[21:26] = (claimed | content[21] >> 4 << 36).to_bytes(5, "big")
    path.write_bytes(content)
    np.testing.assert_array_equal(load_audio(path), noise())
    assert [f"says {claimed / SAMPLE_RATE:.1f} s" in message for message in caplog.messages] == [True] * bool(claimed)


def test_nothing_is_printed_about_places_outside_the_file(tmp_path: Path) -> None:
    # soundfile and PyAV print the exceptions that a Python file raises.
    far = {
        "AIFF": (36, b"\x80\0\0\0"),
        "RF64": (34, b"\x80\0\0\0"),
        "CAF": (94, b"\x80\0\0\0"),
        "W64": (54, bytes(7) + b"\x80"),
    }
    for container, (place, size) in far.items():
        path = tmp_path / container
        subtype = "ALAC_16" if container == "CAF" else "PCM_16"
        soundfile.write(path, noise(2000), SAMPLE_RATE, format=container, subtype=subtype)
        content = bytearray(path.read_bytes())
        content[place : place + len(size)] = size
        path.write_bytes(content)
    read_all = """
import sys
from contextlib import suppress
from nemo_triton.audio import AudioError, _log, load_audio
_log.disabled = True
for path in sys.argv[1:]:
    with suppress(AudioError):
        load_audio(path)
"""
    done = subprocess.run([sys.executable, "-c", read_all, *tmp_path.iterdir()], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_codec_without_a_decoder(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    encode(tone(16000).astype(np.float32), path, codec="libopus", rate=48000, container="webm")
    path.write_bytes(path.read_bytes().replace(b"A_OPUS", b"A_NONE"))
    with pytest.raises(AudioError, match=r"a\.webm: not readable as audio \(.+\); convert it to WAV or FLAC"):
        load_audio(path)


def test_an_mp3_without_a_whole_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(2000), SAMPLE_RATE, format="MP3")
    path.write_bytes(path.read_bytes()[:128])
    with pytest.raises(AudioError, match=r"not readable as audio \(cut off in its header\); convert it"):
        load_audio(path)


@pytest.mark.parametrize("change", ["channels", "rate"])
def test_a_stream_that_changes(change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, after, joined = (tmp_path / f"{name}.aac" for name in ("before", "after", "joined"))
    signal = tone(16000).astype(np.float32)
    encode(signal, before, codec="aac", rate=44100, container="adts")
    if change == "rate":
        encode(signal, after, codec="aac", rate=48000, container="adts")
    else:
        encode(signal, after, codec="aac", rate=44100, container="adts", layout="stereo")
    joined.write_bytes(before.read_bytes() + after.read_bytes())
    assert seconds(load_audio(joined)) == pytest.approx(1.0, abs=0.1)
    assert caplog.messages == [
        f"{joined}: its sample rate or channels change; the 1.0 s that can be read are used",
    ]


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST_SAMPLES", 999)
    wav, m4a = tmp_path / "a.wav", tmp_path / "a.m4a"
    soundfile.write(wav, noise(1000), SAMPLE_RATE)
    encode(tone(16000).astype(np.float32), m4a, codec="aac", rate=44100, container="mp4")
    for path in (wav, m4a):
        with pytest.raises(AudioError, match="has more than 999 samples; split it"):
            load_audio(path)


@pytest.mark.parametrize("rate", [0, 1])
def test_a_rate_at_which_audio_does_not_fit_in_memory(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(limits.LARGEST_SAMPLES // 2**13, np.int16), 1, subtype="PCM_16")
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
