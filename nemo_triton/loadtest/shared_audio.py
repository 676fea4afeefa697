"""Recordings in one block of POSIX shared memory, which the server reads."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory
from types import TracebackType

import numpy as np

from nemo_triton.audio import Samples
from nemo_triton.errors import ClientError
from nemo_triton.loadtest.spool import Spool, SpooledSamples
from nemo_triton.protocol import SharedSamples

_FOLDER = "/dev/shm"


class SharedAudio:
    """A block with the contents of a spool, which is freed when the `with` block ends.

    Args:
        spool: Recordings, each of them once.

    Raises:
        ClientError: /dev/shm has too little free memory.
    """

    def __init__(self, spool: Spool) -> None:
        # A block can't be empty.
        self.byte_size = max(spool.byte_size, 1)
        free = shutil.disk_usage(_FOLDER).free
        if self.byte_size > free:
            # Linux creates the block anyway and later kills the process that writes to it (SIGBUS).
            raise ClientError(
                f"{_FOLDER} has {free / 1e6:.0f} MB free but the audio needs {self.byte_size / 1e6:.0f} MB; enlarge it "
                "(in a container with --shm-size), or leave out --shared-memory"
            )
        self._memory = SharedMemory(create=True, size=self.byte_size)
        assert self._memory.buf is not None, "it was created above"
        try:
            # Straight into the block, without a copy in this process's memory.
            spool.file.read_into(self._memory.buf[: spool.byte_size], 0)
        except BaseException:
            self._memory.unlink()
            raise

    @property
    def key(self) -> str:
        """Name as shm_open expects it, with a leading slash."""
        return f"/{self._memory.name}"

    def __enter__(self) -> SharedAudio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._memory.unlink()
        self._memory.close()


def in_region(region: str, recordings: Sequence[SpooledSamples]) -> list[Samples | SharedSamples]:
    """Each recording as an input of a request that reads a server's region with the contents of their spool.

    Args:
        region: The server's name for the block.
        recordings: Recordings of the spool.
    """
    # An empty recording has no bytes in shared memory, so it is sent as an empty array.
    return [
        SharedSamples(region=region, offset=audio.offset, count=audio.count, dtype=audio.dtype)
        if audio.count
        else np.zeros(0, audio.dtype)
        for audio in recordings
    ]
