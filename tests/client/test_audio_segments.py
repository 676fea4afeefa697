"""load_audio on segments of files."""

import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import soxr
from audio_signals import loudest_hertz, noise, tone

from nemo_triton.audio import as_float, load_audio
from nemo_triton.audio_decoders import decode, limits
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import AudioError
from verification.encoding import encode

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("warnings_are_logged")]

BY_FFMPEG = {
    "a.m4a": ("aac", 44100, "mp4"),
    "a.opus": ("libopus", 48000, "ogg"),
    "a.webm": ("libopus", 48000, "webm"),
    "a.mkv": ("libmp3lame", 22050, "matroska"),
    "a.amr": ("libopencore_amrnb", 8000, "amr"),
}
"""Files that FFmpeg decodes: codec, rate and container."""


def encoded(folder: Path, name: str, length: float = 4.0) -> Path:
    codec, rate, container = BY_FFMPEG[name]
    samples = noise(round(length * SAMPLE_RATE)) * np.float32(1e-5)
    encode(samples.astype(np.float32), folder / name, codec=codec, rate=rate, container=container)
    return folder / name


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


@pytest.mark.parametrize("name", BY_FFMPEG)
@pytest.mark.parametrize(
    ("offset", "duration"), [(0.0, 0.02), (0.3, 1.23456), (1.0, 1e-3), (2.71828, None), (3.5, 0.4999), (0.0, 3.9)]
)
def test_a_segment_decoded_by_ffmpeg_is_a_slice_of_the_whole(
    tmp_path: Path, name: str, offset: float, duration: float | None
) -> None:
    path = encoded(tmp_path, name)
    whole = decode(path)
    start = int(offset * whole.rate)
    cut = whole.samples[start : None if duration is None else start + int(duration * whole.rate)]
    as_wav = tmp_path / "cut.wav"
    # The same rounding and resampling as for a file with only these samples.
    soundfile.write(as_wav, cut, whole.rate, subtype="PCM_16" if cut.dtype == np.int16 else "FLOAT")
    loaded = load_audio(path, offset=offset, duration=duration)
    np.testing.assert_array_equal(loaded, load_audio(as_wav))
    assert len(loaded)


@pytest.mark.parametrize("name", BY_FFMPEG)
def test_ffmpeg_keeps_only_the_segment(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = encoded(tmp_path, name)
    expected = load_audio(path, offset=2.0, duration=0.5)
    # A second of the file, which has four.
    monkeypatch.setattr(limits, "LARGEST_SAMPLES", max(BY_FFMPEG[name][1], SAMPLE_RATE))
    np.testing.assert_array_equal(load_audio(path, offset=2.0, duration=0.5), expected)
    assert len(load_audio(path, offset=3.5)) == pytest.approx(0.5 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    assert caplog.messages == []
    too_long: list[dict[str, Any]] = [{}, {"offset": 1.0}, {"duration": 2.0}]
    for segment in too_long:
        with pytest.raises(AudioError, match=r"has more than [\d,]+ samples.*; split it"):
            load_audio(path, **segment)


@pytest.mark.parametrize("name", ["a.webm", "a.amr", "a.opus"])
def test_damage_is_said_for_the_segments_at_and_after_it(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = encoded(tmp_path, name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    load_audio(path, offset=0.5, duration=0.25)
    assert caplog.messages == []
    load_audio(path, offset=0.5)
    (message,) = caplog.messages
    assert message.startswith(f"{path}: it") and message.endswith("; what can be read of the segment is used")
    with pytest.raises(AudioError, match=r"offset 3 s is beyond its end at [12]\.\d s \(it.*\); correct the offset"):
        load_audio(path, offset=3.0, duration=0.5)


def test_a_segment_of_a_file_without_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, as_wav = tmp_path / "a.wav", tmp_path / "cut.wav"
    soundfile.write(path, noise(200_000), 8000, subtype="GSM610")
    whole, rate = soundfile.read(path, frames=200_000, dtype="float32")
    # Behind several of the blocks that are skipped.
    soundfile.write(as_wav, whole[160_000:164_000], rate, subtype="FLOAT")
    monkeypatch.setattr(limits, "LARGEST_SAMPLES", 8000)
    np.testing.assert_array_equal(load_audio(path, offset=20.0, duration=0.5), load_audio(as_wav))


def test_a_gap_before_a_segment_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Matroska goes on after a damaged cluster, so that what follows is at an earlier time."""
    path = tmp_path / "a.webm"
    with av.open(path, "w") as output:
        stream = output.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(48_000, 30.0).astype(np.float32)[None], format="flt", layout="mono")
        frame.sample_rate = 48_000
        output.mux([*stream.encode(frame), *stream.encode(None)])
    content, cluster = path.read_bytes(), b"\x1f\x43\xb6\x75"
    place = content.index(cluster, len(content) // 3)
    path.write_bytes(content[:place] + bytes(4) + content[place + 4 :])
    load_audio(path, offset=5, duration=1)
    assert caplog.messages == []
    load_audio(path, offset=20, duration=1)
    (message,) = caplog.messages
    assert message.startswith(f"{path}: it has a gap of 5.0 s at 15.0 s, and later times leave it out; ")
