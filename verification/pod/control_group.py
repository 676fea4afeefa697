"""Limit the memory of processes with a Linux control group, as Kubernetes limits a pod's."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nemo_triton.errors import ClientError

ROOT = Path("/sys/fs/cgroup")
REMOVAL_SECONDS = 30.0


class ControlGroupError(ClientError):
    """A control group can't be made."""


@dataclass(frozen=True)
class Files:
    """Names of a memory controller's files, which differ between versions of control groups."""

    limit: str
    peak: str
    events: str


V1 = Files("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control")
V2 = Files("memory.max", "memory.peak", "memory.events")


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
        (count,) = re.findall(r"^oom_kill (\d+)$", (self.folder / self.files.events).read_text(), re.MULTILINE)
        return int(count)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Start child processes in this group during the block; this process is in it for so long."""
        before = _own_group(self.files)
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
    files = V2 if (ROOT / "cgroup.controllers").exists() else V1
    folder = (ROOT if files is V2 else ROOT / "memory") / f"nemo_triton_{os.getpid()}"
    try:
        folder.mkdir()
        (folder / files.limit).write_text(str(limit))
    except OSError as error:
        raise ControlGroupError(f"{folder}: can't limit memory ({error.strerror}); run as root on Linux") from error
    try:
        yield ControlGroup(folder, files)
    finally:
        _remove(folder)


def _own_group(files: Files) -> Path:
    """Folder of this process's group."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    if files is V2:
        (path,) = (path for number, _, path in lines if number == "0")
        return ROOT / path.lstrip("/")
    (path,) = (path for _, controllers, path in lines if "memory" in controllers.split(","))
    return ROOT / "memory" / path.lstrip("/")


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
