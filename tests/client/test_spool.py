"""The spool of decoded audio: what is read back, in other processes too, and a folder without space."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from locations import ROOT

from nemo_triton.audio import Samples
from nemo_triton.errors import ClientError
from nemo_triton.loadtest.spool import ALIGNMENT, CHUNK_BYTES, Spool, SpooledSamples

pytestmark = pytest.mark.fast

KINDS = [np.int16, np.float32]


def noise(count: int, kind: Any) -> Any:
    values = np.random.default_rng(count).uniform(-1, 1, count)
    return (values * (32767 if kind == np.int16 else 1)).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_samples_come_back_as_they_are(kind: Any) -> None:
    recordings = [noise(count, kind) for count in (1, 0, 33, CHUNK_BYTES, 160_000)]
    with Spool() as spool:
        spooled = [spool.add(samples) for samples in recordings]
        for audio, samples in zip(spooled, recordings, strict=True):
            for _ in range(2):
                actual = await audio.read()
                assert actual.dtype == samples.dtype and np.array_equal(actual, samples)
                assert actual.flags.writeable
            assert b"".join(map(bytes, audio.chunks())) == samples.tobytes()


async def test_every_second_sample_of_an_array_is_a_recording() -> None:
    samples = noise(1000, np.int16)[::2]
    with Spool() as spool:
        assert np.array_equal(await spool.add(samples).read(), samples)


def test_recordings_of_both_types_are_aligned() -> None:
    with Spool() as spool:
        spooled = [spool.add(noise(count, kind)) for count in (1, 3, 33) for kind in KINDS]
    assert [audio.offset % ALIGNMENT for audio in spooled] == [0] * 6
    ends = [audio.offset + audio.count * audio.dtype.itemsize for audio in spooled]
    assert all(end <= audio.offset for end, audio in zip(ends, spooled[1:], strict=False))


async def test_audio_that_is_not_in_the_page_cache_comes_from_the_disk() -> None:
    samples = noise(3_000_000, np.int16)
    with Spool() as spool:
        audio = spool.add(samples)
        os.fsync(spool.file.descriptor)
        os.posix_fadvise(spool.file.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        assert np.array_equal(await audio.read(), samples)


def test_the_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Spool() as spool:
        spool.add(noise(1000, np.int16))
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(spool.file.descriptor).st_dev == tmp_path.stat().st_dev


def send_samples(recordings: list[SpooledSamples], connection: Connection) -> None:
    for audio in recordings:
        connection.send_bytes(b"".join(map(bytes, audio.chunks())))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_another_process_reads_the_recordings(method: str) -> None:
    recordings = [noise(1000, np.int16), noise(2000, np.float32)]
    context: Any = multiprocessing.get_context(method)
    with Spool() as spool:
        spooled = [spool.add(samples) for samples in recordings]
        parent_end, child_end = context.Pipe()
        process = context.Process(target=send_samples, args=(spooled, child_end))
        process.start()
        for samples in recordings:
            assert parent_end.poll(60)
            assert parent_end.recv_bytes() == samples.tobytes()
        process.join()
    assert process.exitcode == 0


def test_a_folder_that_does_not_exist_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(ClientError, match=r"no folder for the decoded audio .*; set TMPDIR to a folder"):
        Spool()


class Usage(NamedTuple):
    total: int
    free: int


def test_a_full_folder_is_refused_before_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    # Filling the machine's own disk could end other programs.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(total=100_000, free=25_000))
    with Spool() as spool:
        spool.add(noise(9_900, np.int16))  # 5 % are kept free.
        message = rf"{spool.folder}: only 0.0 GB left, and the decoded audio needs more than 0.0 GB; set TMPDIR to"
        with pytest.raises(ClientError, match=message):
            spool.add(noise(10_100, np.int16))
        assert spool.byte_size == 19_800


def test_too_little_space_is_said_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(total=2**40, free=77 * 10**9))
    with Spool() as spool:
        assert spool.lack_of_space(75e9) is None
        lack = f"{spool.folder}: 77.0 GB free, and the decoded audio needs about 115.2 GB; "
        assert str(spool.lack_of_space(115.2e9)).startswith(lack)


def test_a_write_that_fails_is_one_line() -> None:
    """The limit on the size of files makes the system refuse a write, as it does on a full disk."""
    program = (
        "import resource, numpy\n"
        "from nemo_triton.errors import ClientError\n"
        "from nemo_triton.loadtest.spool import Spool\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "with Spool() as spool:\n"
        "    spool.add(numpy.zeros(1000, numpy.int16))\n"
        "    try:\n"
        "        spool.add(numpy.zeros(10_000, numpy.int16))\n"
        "    except ClientError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the decoded audio can't be written after 0.0 GB (File too large); set TMPDIR to" in done.stdout
    assert done.stdout.count("\n") == 1


def test_samples_of_a_late_thread_are_not_written(tmp_path: Path) -> None:
    """An interrupt leaves threads behind that still decode a file; the descriptor may belong to another file then."""
    with Spool() as spool:
        pass
    with (tmp_path / "other").open("wb") as other:
        assert other.fileno() == spool.file.descriptor
        samples: Samples = noise(1000, np.int16)
        with pytest.raises(ValueError, match="closed file"):
            spool.add(samples)
        assert (tmp_path / "other").stat().st_size == 0
