"""load_audio on files that are no audio, or of which nothing can be used: one line with the name and the fix."""

import codecs
import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import soundfile
from audio_signals import noise, tone

from nemo_triton.audio import load_audio
from nemo_triton.audio_decoders import limits
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import AudioError
from verification.encoding import encode

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("warnings_are_logged")]


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


@pytest.mark.parametrize(
    "content",
    [
        "a.wav\nb.wav\n",
        "filename\ttranscript\r\na.wav\tcaf\u00e9\r\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + ("path\ttext\r\n" * 3000).encode("utf-16-be"),
        "call-1 call 0 1.5\ncall-2 call 1.5 3\n",
        "84-121123-0000 GO DO YOU HEAR\n",
        "1\n00:00:01,000 --> 00:00:02,000\nhello\n",
        "\u00e9" * 5000,
        "caf\u00e9 au lait\n".encode("cp1252"),
    ],
)
def test_text_is_named(content: str | bytes, tmp_path: Path) -> None:
    """A list of recordings that has no manifest's name, or what a browser saved instead of a recording."""
    for name, advice in (
        ("list.txt", "to use it as a manifest, name it .jsonl, .json, .csv or .tsv"),
        ("list", "to use it as a manifest, name it .jsonl, .json, .csv or .tsv"),
        ("call.WAV", "record or copy it again"),
        ("call.opus", "record or copy it again"),
    ):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(AudioError) as caught:
            load_audio(path)
        assert str(caught.value) == f"{path}: not readable as audio (it holds text); {advice}"


@pytest.mark.parametrize("content", [b"\x80" * 5000, bytes(range(256)) * 20, b"\xfe\xff\xd8\0" * 900, b" \n", b"a\0b"])
def test_other_data_is_not_called_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.bin: not readable as audio \((?!it holds text)"):
        load_audio(path)


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


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1000), SAMPLE_RATE)

    def refuse(path: Path, *arguments: Any, **options: Any) -> NoReturn:
        # The system lets root, who may run this test, read everything.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match=r"cannot be read \(Permission denied\); check the path and its permissions"):
        load_audio(path)


@pytest.mark.parametrize("name", ["a\nb.wav", "\x1b[2J.wav", "\ud800.wav", "a\0.wav"])
def test_the_error_for_an_odd_name_is_one_printable_line(name: str) -> None:
    with pytest.raises(AudioError, match="no such file") as caught:
        load_audio(name)
    assert str(caught.value).isprintable()


def test_a_file_of_which_nearly_nothing_is_left_is_refused(tmp_path: Path) -> None:
    """Its empty text would look like a result."""
    path = tmp_path / "lost.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), 48_000)
    content = path.read_bytes()
    path.write_bytes(content[:10_000].ljust(len(content), b"\0"))
    with pytest.raises(AudioError, match=r"only 0\.0\d s of its [\d,]+ bytes can be decoded; record or copy it again"):
        load_audio(path)
