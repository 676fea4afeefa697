"""Give this process a /dev/shm of its own, as a pod has one."""

from __future__ import annotations

import ctypes
import os

from verification.sampling import Sampling

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
SHARED_MEMORY = "/dev/shm"
INTERVAL_SECONDS = 0.05


def limit_shared_memory(size: int) -> None:
    """Replace /dev/shm by an empty one of `size` bytes, for this process and those that it starts.

    Raises:
        OSError: This user may not mount.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), SHARED_MEMORY)

    check(libc.unshare(CLONE_NEWNS))
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    check(libc.mount(b"tmpfs", SHARED_MEMORY.encode(), b"tmpfs", 0, f"size={size}".encode()))


def used_shared_memory() -> int:
    """Bytes in use in /dev/shm."""
    state = os.statvfs(SHARED_MEMORY)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


class PeakSharedMemory(Sampling):
    """Samples the use of /dev/shm during a `with` block.

    Attributes:
        peak: Highest number of bytes in use so far.
    """

    def __init__(self) -> None:
        self.peak = 0
        super().__init__(self._note_peak, INTERVAL_SECONDS)

    def _note_peak(self) -> None:
        self.peak = max(self.peak, used_shared_memory())
