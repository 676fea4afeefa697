"""Recordings in one block of POSIX shared memory, which sending processes and the server read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from multiprocessing.shared_memory import SharedMemory
from types import TracebackType

import numpy as np

from nemo_triton.audio import Samples
from nemo_triton.errors import ClientError
from nemo_triton.protocol import SharedSamples

_FOLDER = "/dev/shm"
_ITEM_BYTES = np.dtype(np.int16).itemsize


@dataclass(frozen=True)
class Block:
    """Layout of the shared memory, which another process needs to read it.

    Attributes:
        name: Name of the block.
        counts: Number of samples of each recording.
    """

    name: str
    counts: tuple[int, ...]

    @property
    def key(self) -> str:
        """Name as shm_open expects it, with a leading slash."""
        return f"/{self.name}"

    @property
    def byte_size(self) -> int:
        """Size of the block."""
        # A block can't be empty.
        return max(sum(self.counts), 1) * _ITEM_BYTES

    @property
    def offsets(self) -> list[int]:
        """Offset of each recording, in samples."""
        return [0, *accumulate(self.counts)][:-1]

    def regions(self, region: str) -> list[Samples | SharedSamples]:
        """Each recording as an input of a request that reads the server's region `region`."""
        locations = zip(self.offsets, self.counts, strict=True)
        # An empty recording has no bytes in shared memory, so it is sent as an empty array.
        return [
            SharedSamples(region=region, offset=offset * _ITEM_BYTES, count=count) if count else np.zeros(0, np.int16)
            for offset, count in locations
        ]


class SharedAudio:
    """The block, mapped into this process until the `with` block ends; the process that created it frees it."""

    def __init__(self, memory: SharedMemory, block: Block, owned: bool) -> None:
        self.block = block
        self._memory = memory
        self._owned = owned

    @classmethod
    def holding(cls, recordings: Sequence[Samples]) -> SharedAudio:
        """Create a block and copy the recordings into it.

        Args:
            recordings: int16 [T] each.

        Raises:
            ClientError: /dev/shm has too little free memory.
        """
        counts = tuple(map(len, recordings))
        size = Block("", counts).byte_size
        free = shutil.disk_usage(_FOLDER).free
        if size > free:
            # Linux creates the block anyway and later kills the process that writes to it (SIGBUS).
            raise ClientError(
                f"{_FOLDER} has {free / 1e6:.0f} MB free but the audio needs {size / 1e6:.0f} MB; enlarge it (in a "
                "container with --shm-size), or leave out --processes and --shared-memory"
            )
        memory = SharedMemory(create=True, size=size)
        shared = cls(memory, Block(memory.name, counts), owned=True)
        for view, samples in zip(shared.samples(), recordings, strict=True):
            view[:] = samples
        return shared

    @classmethod
    def attached(cls, block: Block) -> SharedAudio:
        """Map a block that another process created."""
        return cls(SharedMemory(block.name), block, owned=False)

    def samples(self) -> list[Samples]:
        """Each recording, int16 [T], as a view into the block."""
        locations = zip(self.block.offsets, self.block.counts, strict=True)
        return [
            np.ndarray(count, np.int16, self._memory.buf, offset=offset * _ITEM_BYTES) for offset, count in locations
        ]

    def __enter__(self) -> SharedAudio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned:
            self._memory.unlink()
        # Arrays that still view the block keep it mapped until they are deleted.
        with suppress(BufferError):
            self._memory.close()
