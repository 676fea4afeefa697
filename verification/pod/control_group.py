"""Limit the memory of processes with a Linux control group, as Kubernetes limits a pod's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nemo_triton.errors import ClientError
from server.cgroup import MOUNT, memory_group, oom_kills_in

REMOVAL_SECONDS = 30.0


class ControlGroupError(ClientError):
    """A control group can't be made."""


@dataclass(frozen=True)
class Files:
    """Names of a memory controller's files, which differ between versions of control groups."""

    limit: str
    peak: str


V1 = Files("memory.limit_in_bytes", "memory.max_usage_in_bytes")
V2 = Files("memory.max", "memory.peak")


@dataclass(frozen=True)
class ControlGroup:
    """A control group with limited memory. Files in /dev/shm and the page cache count too.

    Attributes:
        folder: The group's folder.
        files: Names of its files.
    """

    folder: Path
    files: Files

    @property
    def peak(self) -> int:
        """Highest number of bytes. The kernel drops cached files before it exceeds the limit."""
        return int((self.folder / self.files.peak).read_text())

    @property
    def killed(self) -> int:
        """Number of processes that the kernel killed for want of memory."""
        return oom_kills_in(self.folder) or 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Start child processes in this group during the block; this process is in it for so long."""
        before = memory_group()
        self._move(self.folder)
        try:
            yield
        finally:
            self._move(before)

    @staticmethod
    def _move(folder: Path) -> None:
        (folder / "cgroup.procs").write_text(str(os.getpid()))


@contextmanager
def control_group(limit: int) -> Iterator[ControlGroup]:
    """Make a control group for the block.

    Args:
        limit: Memory of all its processes together, in bytes.

    Raises:
        ControlGroupError: This user can't make one.
    """
    files = V2 if (MOUNT / "cgroup.controllers").exists() else V1
    folder = (MOUNT if files is V2 else MOUNT / "memory") / f"nemo_triton_{os.getpid()}"
    try:
        folder.mkdir()
        (folder / files.limit).write_text(str(limit))
    except OSError as error:
        raise ControlGroupError(f"{folder}: can't limit memory ({error.strerror}); run as root on Linux") from error
    try:
        yield ControlGroup(folder, files)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a group; that needs its processes to have ended."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while True:
        try:
            folder.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
