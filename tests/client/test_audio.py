"""load_audio on real files of many formats: levels, rates and channels."""

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from audio_signals import loudest_hertz, noise, tone

from nemo_triton.audio import Channel, as_float, load_audio, load_channels, seconds
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import AudioError
from nemo_triton.manifest import find_audio
from verification.encoding import ENCODED, encode

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("warnings_are_logged")]


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
    advice = "choose one with --channel or a manifest's channel field"
    warnings = [f"{path}: its 2 channels cancel each other when averaged; {advice}"] if cancels else []
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


@pytest.mark.parametrize("name", [*ENCODED, "messenger.opus"])
def test_what_phones_and_browsers_record(in_every_format: dict[str, Path], name: str) -> None:
    loaded = load_audio(in_every_format[name])
    assert seconds(loaded) == pytest.approx(6.0, abs=0.15), "encoders add a little silence"
    assert loudest_hertz(loaded) == pytest.approx(440, abs=3)
    assert np.sqrt(np.square(loaded[8000:24000]).mean()) == pytest.approx(0.354, rel=0.2)


VIDEOS = {
    "phone.3g2": ("aac", 44100, "3g2"),
    "phone.3gpp": ("libopencore_amrnb", 8000, "3gp"),
    "tablet.m4v": ("aac", 44100, "ipod"),
    "radio.mp2": ("mp2", 44100, "mp2"),
    "television.eac3": ("eac3", 48000, "eac3"),
    "windows.asf": ("wmav2", 44100, "asf"),
    "windows.wmv": ("wmav2", 44100, "asf"),
    "camera.mpg": ("mp2", 44100, "mpeg"),
    "camera.mpeg": ("mp2", 44100, "mpeg"),
    "disc.VOB": ("ac3", 48000, "vob"),
    "screen.flv": ("aac", 44100, "flv"),
    "studio.mxf": ("pcm_s16le", 48000, "mxf_opatom"),
    "broadcast.ts": ("aac", 44100, "mpegts"),
    "camcorder.m2ts": ("ac3", 48000, "mpegts"),
    "camcorder.mts": ("ac3", 48000, "mpegts"),
    "video.ogv": ("flac", 44100, "ogv"),
}
"""Containers of videos and broadcasts: name -> codec, sample rate, FFmpeg's name of the container."""


@pytest.mark.parametrize("name", VIDEOS)
def test_videos_and_broadcasts_are_read_and_listed(name: str, tmp_path: Path) -> None:
    codec, rate, container = VIDEOS[name]
    encode(tone(SAMPLE_RATE, 2.0).astype(np.float32), tmp_path / name, codec=codec, rate=rate, container=container)
    [utterance] = find_audio([tmp_path]).utterances
    loaded = load_audio(utterance.audio)
    assert seconds(loaded) == pytest.approx(2.0, abs=0.15)
    assert loudest_hertz(loaded) == pytest.approx(440, abs=3)


def test_wideband_amr(tmp_path: Path) -> None:
    """Two seconds of frames with zeros, because no encoder is at hand."""
    frame = b"\x04" + bytes(17)
    path = tmp_path / "phone.awb"
    path.write_bytes(b"#!AMR-WB\n" + frame * 100)
    assert [utterance.audio for utterance in find_audio([tmp_path]).utterances] == [path]
    assert seconds(load_audio(path)) == 2.0


def test_compressed_aiff(tmp_path: Path) -> None:
    path = tmp_path / "studio.aifc"
    soundfile.write(path, tone(SAMPLE_RATE), SAMPLE_RATE, format="AIFF", subtype="ULAW")
    assert [utterance.audio for utterance in find_audio([tmp_path]).utterances] == [path]
    assert loudest_hertz(load_audio(path)) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("name", ["screen.flv", "studio.mxf"])
def test_half_of_a_video_is_said(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    codec, rate, container = VIDEOS[name]
    path = tmp_path / name
    encode(tone(SAMPLE_RATE, 2.0).astype(np.float32), path, codec=codec, rate=rate, container=container)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert seconds(load_audio(path)) == pytest.approx(1.0, abs=0.15)
    assert "s that can be read are used" in caplog.text


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
