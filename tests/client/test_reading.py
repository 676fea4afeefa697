"""Reading a manifest's audio into a spool: each file once, in the manifest's order."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from audio_signals import tone

from nemo_triton.audio import Channel, Samples
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import ClientError
from nemo_triton.loadtest import reading
from nemo_triton.loadtest.reading import expected_bytes, read_into_spool
from nemo_triton.loadtest.recording import Recording, SpooledRecording, digest
from nemo_triton.loadtest.spool import Spool
from nemo_triton.manifest import Utterance
from nemo_triton.utterances import load_utterance
from verification.encoding import encode

pytestmark = pytest.mark.fast


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files of 1, 2 and 3 seconds."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for seconds, path in enumerate(paths, 1):
        soundfile.write(path, generator.integers(-3000, 3000, seconds * 16000, dtype=np.int16), 16000)
    return paths


async def read(utterances: list[Utterance], spool: Spool) -> tuple[list[SpooledRecording], str, list[str], int]:
    """Recordings, digest, problems and number of steps."""
    problems: list[str] = []
    steps: list[None] = []
    recordings, checksum = await read_into_spool(
        utterances, spool, on_problem=problems.append, advance=lambda: steps.append(None)
    )
    return recordings, checksum, problems, len(steps)


async def test_each_file_is_stored_once_and_the_digest_is_that_of_all_lines(files: list[Path]) -> None:
    lines = [Utterance(files[number % 3], f"text {number}", line=number) for number in range(100)]
    with Spool() as spool:
        recordings, checksum, problems, steps = await read(lines, spool)
        assert spool.byte_size == sum(range(1, 4)) * 32000
        for recording in recordings[:6]:
            assert np.array_equal(await recording.audio.read(), load_utterance(recording.utterance))
    assert [recording.utterance for recording in recordings] == lines
    assert [recording.duration for recording in recordings] == [number % 3 + 1 for number in range(100)]
    assert (problems, steps) == ([], 100)
    assert checksum == digest([Recording(utterance, load_utterance(utterance)) for utterance in lines])


async def test_files_are_opened_once(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[Path] = Counter()

    def count(utterance: Utterance) -> Samples:
        opened[utterance.audio] += 1
        return load_utterance(utterance)

    monkeypatch.setattr(reading, "load_utterance", count)
    with Spool() as spool:
        await read([Utterance(path) for path in files * 20], spool)
    assert opened == Counter({path: 1 for path in files})


async def test_bad_files_cost_a_line_each_and_no_other_utterance(files: list[Path], tmp_path: Path) -> None:
    gone = tmp_path / "gone.wav"
    paths = (files[0], gone, files[1], gone, gone)
    lines = [Utterance(path, line=number, source=Path("m.csv")) for number, path in enumerate(paths, start=1)]
    with Spool() as spool:
        recordings, checksum, problems, steps = await read(lines, spool)
    assert [recording.utterance.audio for recording in recordings] == files[:2]
    missing = f"{gone}: no such file; check the path"
    assert problems == [f"{missing} (m.csv:{number})" for number in (2, 4, 5)]
    assert steps == 5
    assert checksum == digest([Recording(Utterance(path), load_utterance(Utterance(path))) for path in files[:2]])


async def test_a_full_disk_ends_the_reading(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    # Filling the machine's own disk could end other programs.
    usage = type("Usage", (), {"total": 100_000, "free": 50_000})()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with Spool() as spool, pytest.raises(ClientError, match=r"only 0\.0 GB left.*set TMPDIR"):
        await read([Utterance(path) for path in files * 20], spool)


def test_the_expected_size_counts_a_file_once() -> None:
    lines = [Utterance(Path("a.wav"), duration=35.0), Utterance(Path("b.wav"), "b", duration=5.0), Utterance(Path("c"))]
    assert expected_bytes(lines * 1000) == 40 * 32000


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype", "channel", "is_float"),
    [
        ("a.wav", 16000, 1, "PCM_16", None, False),
        ("a.wav", 16000, 1, "ULAW", None, False),
        ("a.wav", 16000, 1, "PCM_24", None, True),
        ("a.wav", 16000, 1, "FLOAT", None, True),
        ("a.wav", 8000, 1, "PCM_16", None, True),
        ("a.flac", 16000, 2, "PCM_16", None, True),
        ("a.flac", 16000, 2, "PCM_16", "average", True),
        ("a.flac", 16000, 2, "PCM_16", "right", False),
        ("a.mp3", 16000, 1, "MPEG_LAYER_III", None, True),
        ("a.opus", 16000, 1, "OPUS", None, True),
        ("a.m4a", 44100, 1, "AAC", None, True),
    ],
)
def test_the_expected_size_counts_float_samples_as_such(
    name: str, rate: int, channels: int, subtype: str, channel: Channel | None, is_float: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    if subtype == "AAC":
        encode(tone(SAMPLE_RATE, 2.0).astype(np.float32), path, codec="aac", rate=rate, container="mp4")
    else:
        container = "OGG" if subtype == "OPUS" else None
        samples = np.stack([tone(rate, 2.0)] * channels, axis=1)
        soundfile.write(path, samples, rate, subtype=subtype, format=container)
    utterance = Utterance(path, duration=2.0, channel=channel)
    loaded = load_utterance(utterance)
    assert loaded.dtype == (np.float32 if is_float else np.int16)
    assert expected_bytes([utterance]) == pytest.approx(loaded.nbytes, rel=0.05), "what load_utterance returns"


def test_the_expected_size_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert expected_bytes([Utterance(tmp_path / "pipe.wav", duration=1.0)]) == 32000


def test_the_digest_of_16_bit_audio_is_that_of_earlier_versions() -> None:
    recordings = [
        Recording(Utterance(Path("a.wav"), "a \ud83d"), np.array([1, -2, 3], np.int16)),
        Recording(Utterance(Path("b.wav")), np.zeros(0, np.int16)),
    ]
    assert digest(recordings) == "b232844d645d0e37d98ea8d0e4ffa39c26158a0e53bc98cd1f2b15780c77e155"


def test_the_digest_tells_sample_types_apart() -> None:
    pair: Any = np.array([1, 2], np.int16)
    same_bytes: Any = pair.view(np.float32)
    longer: Any = np.array([1, 2], np.float32)
    digests = {digest([Recording(Utterance(Path("a")), samples)]) for samples in (pair, same_bytes, longer)}
    assert len(digests) == 3
