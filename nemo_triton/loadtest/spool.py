"""Decoded audio in a temporary file, so that the memory of a load test does not depend on the amount of audio.

The file has no name: the system deletes it when the processes that use it end, even if they are killed. What fits into
free memory stays in the page cache, which the system can drop. A request reads its samples back in well under a
millisecond.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from nemo_triton.audio import Samples
from nemo_triton.errors import ClientError

ALIGNMENT = 64
"""Recordings start at multiples of this, in bytes, so that servers can compute on them in shared memory."""
CHUNK_BYTES = 2**20
"""Bytes that are read into memory when a recording is only passed through."""
_KEPT_FREE_BYTES = 2**30
_KEPT_FREE_FRACTION = 0.05
"""Free space that is left to other programs: a fraction of the file system, and at most the number of bytes."""
_CACHED_ONLY = getattr(os, "RWF_NOWAIT", 0)
_ADVICE = "set TMPDIR to a folder on a disk with more free space"


def bytes_of(samples: Samples) -> memoryview:
    """The bytes of samples [T], not copied if they are contiguous."""
    return np.ascontiguousarray(samples).view(np.uint8).data


class SpoolFile:
    """A spool's file, for reading. Pickled for a process that is being started, it opens the file there too."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with the bytes from `offset`."""
        position = 0
        while position < len(buffer):
            count = os.preadv(self.descriptor, [buffer[position:]], offset + position)
            if not count:
                raise EOFError(f"the file with the decoded audio ends at byte {offset + position}")
            position += count

    def read_cached_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the start of a buffer with what needs no access to the disk; returns the number of bytes."""
        try:
            return os.preadv(self.descriptor, [buffer], offset, _CACHED_ONLY)
        except OSError:
            # Nothing of it is in memory, or the file system can't tell.
            return 0

    def __reduce__(self) -> tuple[Callable[[Any], SpoolFile], tuple[Any]]:
        return _open_inherited, (DupFd(self.descriptor),)


def _open_inherited(descriptor: Any) -> SpoolFile:
    return SpoolFile(descriptor.detach())


@dataclass(frozen=True, kw_only=True)
class SpooledSamples:
    """The samples of one recording in a spool.

    Attributes:
        file: The spool's file.
        offset: First byte in the file.
        count: Number of samples at 16 kHz.
        dtype: int16, or float32 with full scale 1.0.
    """

    file: SpoolFile
    offset: int
    count: int
    dtype: np.dtype[Any]

    async def read(self) -> Samples:
        """Read the samples [T] into a new array. Other tasks run while the disk is read."""
        samples = np.empty(self.count, self.dtype)
        buffer = bytes_of(samples)
        cached = self.file.read_cached_into(buffer, self.offset)
        if cached < len(buffer):
            await asyncio.to_thread(self.file.read_into, buffer[cached:], self.offset + cached)
        return samples

    def chunks(self) -> Iterator[memoryview]:
        """Yield the bytes in pieces. Each piece is valid until the next one."""
        size = self.count * self.dtype.itemsize
        buffer = memoryview(bytearray(min(size, CHUNK_BYTES)))
        for start in range(0, size, CHUNK_BYTES):
            chunk = buffer[: size - start]
            self.file.read_into(chunk, self.offset + start)
            yield chunk


class _DiskUsage(Protocol):
    @property
    def total(self) -> int: ...
    @property
    def free(self) -> int: ...


class Spool:
    """A temporary file that collects decoded audio until the `with` block ends. Several threads may write to it.

    Attributes:
        folder: Folder of the file: TMPDIR, or else the system's.
        byte_size: Bytes so far.

    Raises:
        ClientError: There is no folder for temporary files.
    """

    def __init__(self) -> None:
        try:
            self.folder = tempfile.gettempdir()
            self._output = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (__exit__ closes it)
        except OSError as error:
            raise ClientError(f"no folder for the decoded audio ({error.strerror}); {_ADVICE}") from error
        self.file = SpoolFile(self._output.fileno())
        self.byte_size = 0
        self._lock = threading.Lock()

    def add(self, samples: Samples) -> SpooledSamples:
        """Append a recording.

        Args:
            samples: int16 or float32 [T].

        Raises:
            ClientError: The folder has too little free space.
        """
        content = bytes_of(samples)
        with self._lock:
            offset = -(-self.byte_size // ALIGNMENT) * ALIGNMENT
            self._check_free(offset + len(content))
            self._write(content, offset)
            self.byte_size = offset + len(content)
        return SpooledSamples(file=self.file, offset=offset, count=len(samples), dtype=samples.dtype)

    def lack_of_space(self, expected_bytes: float) -> str | None:
        """One line if the folder has too little free space for the audio that is expected; None if it has enough."""
        usage = self._usage()
        if expected_bytes <= usage.free - _kept_free(usage):
            return None
        return (
            f"{self.folder}: {_gb(usage.free)} free, and the decoded audio needs about {_gb(expected_bytes)}; {_ADVICE}"
        )

    def _check_free(self, size: int) -> None:
        usage = self._usage()
        if size - self.byte_size > usage.free - _kept_free(usage):
            needed = f"the decoded audio needs more than {_gb(size)}"
            raise ClientError(f"{self.folder}: only {_gb(usage.free)} left, and {needed}; {_ADVICE}")

    def _usage(self) -> _DiskUsage:
        return shutil.disk_usage(self.file.descriptor)

    def _write(self, content: memoryview, offset: int) -> None:
        position = 0
        try:
            while position < len(content):
                position += os.pwrite(self._output.fileno(), content[position:], offset + position)
        except OSError as error:
            raise ClientError(
                f"{self.folder}: the decoded audio can't be written after {_gb(offset + position)} ({error.strerror}); "
                f"{_ADVICE}"
            ) from error

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After an interrupt a thread may still decode a file. It must not write to a descriptor that is used again.
        with self._lock:
            self._output.close()


def _kept_free(usage: _DiskUsage) -> float:
    return min(_KEPT_FREE_FRACTION * usage.total, _KEPT_FREE_BYTES)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
