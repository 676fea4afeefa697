"""Read the limits that a container or another control group (cgroup) sets for this process.

Source: the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory, scheduler/sched-bwc.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_limit(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> int | None:
    """Whole CPU cores that this process may use all the time; at least 1, and None without a limit.

    Args:
        membership: File that names the process's groups.
        mount: Folder of the control groups.
    """
    limits = [*_quotas(membership, mount)]
    return max(1, int(min(limits))) if limits else None


def oom_kills(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> int:
    """Processes of this control group that the kernel has killed because memory ran out; 0 if it doesn't say.

    Args:
        membership: File that names the process's groups.
        mount: Folder of the control groups.
    """
    counts = map(oom_kills_in, _folders("memory", membership, mount))
    return next((count for count in counts if count is not None), 0)


def oom_kills_in(folder: Path) -> int | None:
    """The same for the control group with this folder; None if its files don't say."""
    for name in ("memory.events", "memory.oom_control"):
        for line in _read(folder / name).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return None


def memory_group(membership: Path = MEMBERSHIP, mount: Path = MOUNT) -> Path:
    """The folder of this process's control group for memory.

    Args:
        membership: File that names the process's groups.
        mount: Folder of the control groups.
    """
    return next(_folders("memory", membership, mount), mount)


def available_cpus() -> int:
    """CPU cores that the scheduler lets this process run on."""
    return len(os.sched_getaffinity(0))


def _quotas(membership: Path, mount: Path) -> Iterator[float]:
    for folder in _folders("cpu", membership, mount):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if not quota:
            quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
        with suppress(ValueError):
            if int(quota) > 0:
                yield int(quota) / int(period)


def _folders(controller: str, membership: Path, mount: Path) -> Iterator[Path]:
    """The folders of this process's group and the groups around it, of cgroup v2 and of v1's `controller`.

    In a container, the group's path may be the host's while the mount shows the container's group as its root.
    """
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = mount / controller if controllers else mount
        group = root / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
