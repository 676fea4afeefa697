"""Recordings in one block of POSIX shared memory, for sending processes and for the server to read."""

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
    """Where the recordings lie, enough to find them from another process. `counts`: samples of each recording."""

    name: str
    counts: tuple[int, ...]

    @property
    def key(self) -> str:
        """As shm_open takes it."""
        return f"/{self.name}"

    @property
    def byte_size(self) -> int:
        """Of all recordings."""
        # A block of no bytes can't be made.
        return max(sum(self.counts), 1) * _ITEM_BYTES

    @property
    def offsets(self) -> list[int]:
        """In samples."""
        return [0, *accumulate(self.counts)][:-1]

    def regions(self, region: str) -> list[Samples | SharedSamples]:
        """The recordings as the server finds them where it calls the block `region`."""
        places = zip(self.offsets, self.counts, strict=True)
        # A recording without samples has nothing to lie in shared memory.
        return [
            SharedSamples(region=region, offset=offset * _ITEM_BYTES, count=count) if count else np.zeros(0, np.int16)
            for offset, count in places
        ]


class SharedAudio:
    """The block itself, mapped into this process for as long as a `with` lasts; its maker's end frees it."""

    def __init__(self, memory: SharedMemory, block: Block, owned: bool) -> None:
        self.block = block
        self._memory = memory
        self._owned = owned

    @classmethod
    def holding(cls, recordings: Sequence[Samples]) -> SharedAudio:
        """A new block with int16 recordings [T] laid end to end. Raises ClientError where there is no room for it."""
        counts = tuple(map(len, recordings))
        size = Block("", counts).byte_size
        free = shutil.disk_usage(_FOLDER).free
        if size > free:
            # Linux gives the block all the same, and ends the process that writes beyond what there is.
            raise ClientError(
                f"{_FOLDER} has {free / 1e6:.0f} MB free, the audio takes {size / 1e6:.0f} MB; make it larger (in a "
                "container --shm-size), or use one process without --shared-memory"
            )
        memory = SharedMemory(create=True, size=size)
        shared = cls(memory, Block(memory.name, counts), owned=True)
        for place, samples in zip(shared.samples(), recordings, strict=True):
            place[:] = samples
        return shared

    @classmethod
    def attached(cls, block: Block) -> SharedAudio:
        """A block that another process made."""
        return cls(SharedMemory(block.name), block, owned=False)

    def samples(self) -> list[Samples]:
        """Each recording, int16 [T], in place."""
        places = zip(self.block.offsets, self.block.counts, strict=True)
        return [np.ndarray(count, np.int16, self._memory.buf, offset=offset * _ITEM_BYTES) for offset, count in places]

    def __enter__(self) -> SharedAudio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned:
            self._memory.unlink()
        # Arrays that still look at it keep it mapped; it goes with the last of them.
        with suppress(BufferError):
            self._memory.close()
