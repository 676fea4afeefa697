"""Reading a manifest's audio into a spool: each file once, in the manifest's order."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from nemo_triton.audio import Samples
from nemo_triton.errors import ClientError
from nemo_triton.loadtest import reading
from nemo_triton.loadtest.reading import expected_bytes, read_into_spool
from nemo_triton.loadtest.recording import Recording, SpooledRecording, digest
from nemo_triton.loadtest.spool import Spool
from nemo_triton.manifest import Utterance
from nemo_triton.utterances import load_utterance

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
    lines = [Utterance(path) for path in (files[0], gone, files[1], gone, gone)]
    with Spool() as spool:
        recordings, checksum, problems, steps = await read(lines, spool)
    assert [recording.utterance.audio for recording in recordings] == files[:2]
    assert len(problems) == 3 and all(problem.startswith(f"{gone}: no such file") for problem in problems)
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
