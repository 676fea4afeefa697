"""load_audio on damaged files and odd headers: what can be read is used, and said."""

import errno
import os
import subprocess
import sys
from io import FileIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from audio_signals import loudest_hertz, noise, tone

from nemo_triton.audio import as_float, load_audio, seconds
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import AudioError
from verification.encoding import encode

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("warnings_are_logged")]


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


IN_BYTES = "its header says {bytes:,} bytes of samples, but there are "


@pytest.mark.parametrize(
    ("container", "subtype", "rate", "channels", "reason"),
    [
        ("NIST", "PCM_16", 16000, 1, "its header says {count:,} samples, but there are "),
        ("NIST", "ULAW", 8000, 2, "its header says {count:,} samples, but there are "),
        ("RF64", "PCM_24", 44100, 1, IN_BYTES),
        ("RF64", "FLOAT", 16000, 2, IN_BYTES),
        ("W64", "PCM_16", 16000, 2, "its header says "),
        ("VOC", "PCM_16", 16000, 1, "it is cut off"),
        ("VOC", "ALAW", 8000, 2, "it is cut off"),
        ("SVX", "PCM_16", 16000, 1, IN_BYTES),
        ("WVE", "ALAW", 8000, 1, IN_BYTES),
    ],
)
def test_a_file_of_a_less_common_format_is_said_to_be_cut_off(
    container: str,
    subtype: str,
    rate: int,
    channels: int,
    reason: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "a"
    samples = np.stack([tone(rate)] * channels, axis=1)
    soundfile.write(path, samples, rate, format=container, subtype=subtype)
    load_audio(path)
    assert caplog.messages == []
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    cut = load_audio(path)
    assert seconds(cut) == pytest.approx(0.5, abs=0.07)
    (message,) = caplog.messages
    size = rate * channels * {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}.get(subtype, 1)
    assert message.startswith(f"{path}: {reason.format(count=rate, bytes=size)}")
    assert message.endswith(f"; the {seconds(cut):.1f} s that can be read are used")


@pytest.mark.parametrize("header", [b"sample_count -i 16000 ", b"sample_count -i 1e9\n", b"sample_count -r 99999\n"])
def test_a_nist_header_without_a_larger_count(header: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.sph"
    soundfile.write(path, tone(16000), SAMPLE_RATE, format="NIST", subtype="PCM_16")
    content = path.read_bytes()
    count = b"sample_count -i 16000\n"
    assert count in content
    path.write_bytes(content.replace(count, header))
    load_audio(path)
    assert caplog.messages == []


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


class FaultyDisk(FileIO):
    """A file whose second half can't be read. libsndfile itself reads all of it, by the descriptor."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= os.fstat(self.fileno()).st_size // 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


@pytest.mark.parametrize("kind", ["phone.m4a", "phone.amr", "browser.webm", "messenger.opus", "music.mp3", "cut.wav"])
def test_an_unreadable_part_of_the_disk_is_not_damage_of_the_file(
    tmp_path: Path,
    in_every_format: dict[str, Path],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = in_every_format.get(kind) or damaged(in_every_format["16_bit.wav"], tmp_path, kind)
    # A disk with an unreadable part needs a device of its own.
    monkeypatch.setattr(Path, "open", lambda path, *arguments, **options: FaultyDisk(path))
    with pytest.raises(AudioError) as caught:
        load_audio(path)
    assert str(caught.value) == f"{path}: cannot be read (Input/output error); check its disk, or copy it again"
    assert caplog.messages == []
