"""load_audio on files with several audio streams."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from audio_signals import loudest_hertz, tone

from nemo_triton.audio import as_float, load_audio
from nemo_triton.errors import AudioError
from verification.encoding import add_samples

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("warnings_are_logged")]

RATE = 48000


@dataclass
class Track:
    """An audio stream with a tone."""

    hertz: int
    codec: str = "aac"
    layout: str = "mono"
    language: str | None = None
    is_default: bool = False
    is_empty: bool = False


def write_tracks(path: Path, container: str, *tracks: Track) -> Path:
    with av.open(path, "w", format=container) as output:
        streams: list[Any] = []
        for track in tracks:
            stream: Any = output.add_stream(track.codec, rate=RATE, layout=track.layout)
            stream.codec_context.open()
            stream.disposition = int(track.is_default)
            if track.language:
                stream.metadata["language"] = track.language
            streams.append(stream)
        for stream, track in zip(streams, tracks, strict=True):
            if track.is_empty:
                continue
            add_samples(output, stream, tone(RATE, hertz=track.hertz).astype(np.float32), rate=RATE)
    return path


@pytest.mark.parametrize(
    ("container", "tracks", "hertz", "says"),
    [
        ("matroska", [Track(440), Track(880)], 440, "has 2 audio streams; number 1 (aac, mono) is used"),
        (
            "matroska",
            [Track(440, language="eng"), Track(880, layout="stereo", language="deu"), Track(1200, layout="stereo")],
            880,
            "has 3 audio streams; number 2 (aac, stereo, deu) is used",
        ),
        (
            "matroska",
            [Track(440, layout="stereo"), Track(880, codec="libopus", is_default=True)],
            880,
            "has 2 audio streams; number 2 (opus, mono) is used",
        ),
        ("mpegts", [Track(440), Track(880, layout="stereo")], 880, "number 2 (aac, stereo) is used"),
        ("mp4", [Track(440, is_default=True), Track(880, layout="stereo")], 440, "number 1 (aac, mono) is used"),
    ],
)
def test_the_stream_of_the_program_ffmpeg_is_used_and_said(
    container: str, tracks: list[Track], hertz: int, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The expected streams were compared with ffmpeg 5.1.
    path = write_tracks(tmp_path / "film", container, *tracks)
    assert loudest_hertz(as_float(load_audio(path, channel=0))) == pytest.approx(hertz, abs=3)
    (message,) = caplog.messages
    assert message.startswith(f"{path}: has {len(tracks)} audio streams; ") and message.endswith(says)


def test_a_single_stream_is_not_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_audio(write_tracks(tmp_path / "a.mkv", "matroska", Track(440)))
    assert caplog.messages == []


def test_a_stream_without_samples_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unused = Track(440, layout="stereo", is_default=True, is_empty=True)
    path = write_tracks(tmp_path / "a.mkv", "matroska", unused, Track(880))
    assert loudest_hertz(as_float(load_audio(path))) == pytest.approx(880, abs=3)
    assert caplog.messages == [f"{path}: has 2 audio streams; number 2 (aac, mono) is used"]


def without_decoder(path: Path) -> Path:
    """Change the codec of the Opus streams to an unknown one."""
    path.write_bytes(path.read_bytes().replace(b"A_OPUS", b"A_NONE"))
    return path


def test_a_stream_without_a_decoder_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Track(440, codec="libopus", is_default=True)
    path = without_decoder(write_tracks(tmp_path / "a.mkv", "matroska", first, Track(880)))
    assert loudest_hertz(as_float(load_audio(path))) == pytest.approx(880, abs=3)
    assert caplog.messages == [
        f"{path}: has 2 audio streams; number 2 (aac, mono) is used, because FFmpeg has no decoder for number 1"
    ]


def test_streams_that_all_have_no_decoder(tmp_path: Path) -> None:
    tracks = [Track(440, codec="libopus"), Track(880, codec="libopus")]
    path = without_decoder(write_tracks(tmp_path / "a.mkv", "matroska", *tracks))
    with pytest.raises(AudioError, match=r"a\.mkv: not readable as audio \(.+\); convert it to WAV or FLAC"):
        load_audio(path)


def test_the_language_of_a_stream_is_one_short_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracks = [Track(440, language="\x1b[2J\n" * 99), Track(880)]
    load_audio(write_tracks(tmp_path / "a.mkv", "matroska", *tracks))
    (message,) = caplog.messages
    assert message.isprintable() and len(message) < len(str(tmp_path)) + 120


@pytest.mark.parametrize(("codec", "layout", "channels"), [("aac", "7.1", 8), ("pcm_s16le", "hexadecagonal", 16)])
def test_a_stream_of_many_channels(codec: str, layout: str, channels: int, tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "film.mkv", "matroska", Track(440, codec=codec, layout=layout))
    # In another process, because PyAV would end this one if its frames were planar.
    read = (
        "import sys; from nemo_triton import load_channels; print([len(each) for each in load_channels(sys.argv[1])])"
    )
    done = subprocess.run([sys.executable, "-c", read, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lengths = json.loads(done.stdout)
    assert len(lengths) == channels and set(lengths) == {lengths[0]}
    assert lengths[0] == pytest.approx(16000, abs=1600)


@pytest.mark.parametrize(("name", "codec"), [("film.mp4", "mpeg4"), ("film.mkv", "mpeg2video"), ("film.ts", "mpeg4")])
def test_no_picture_is_decoded(name: str, codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    with av.open(path, "w") as output:
        video: Any = output.add_stream(codec, rate=25)
        video.width = video.height = 64
        sound: Any = output.add_stream("aac", rate=RATE, layout="mono")
        for _ in range(25):
            output.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, RATE // 25), np.float32), format="fltp", layout="mono")
            samples.sample_rate = RATE
            output.mux(sound.encode(samples))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    formats_of_pictures = []
    av_open = av.open

    def record(*arguments: Any, **options: Any) -> Any:
        container = av_open(*arguments, **options)
        formats_of_pictures.append(container.streams.video[0].codec_context.pix_fmt)
        return container

    monkeypatch.setattr(av, "open", record)
    av.open(path).close()
    assert len(load_audio(path)) == pytest.approx(16000, abs=2000)
    assert formats_of_pictures == ["yuv420p", None], "only a decoder knows the format"
