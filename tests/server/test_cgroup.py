"""Limits of control groups, from the files of the kernel's two versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.cgroup import cpu_limit, oom_kills

pytestmark = pytest.mark.fast


def group(tmp_path: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Write a process's membership and the files of its groups."""
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "membership", tmp_path


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/pod/one\n", {"pod/one/cpu.max": "250000 100000\n"}, 2),
        ("0::/pod/one\n", {"pod/one/cpu.max": "max 100000\n", "pod/cpu.max": "300000 100000\n"}, 3),
        ("0::/pod/one\n", {"pod/one/cpu.max": "max 100000\n"}, None),
        # A container whose mount shows its own group as the root.
        ("0::/hosts/path\n", {"cpu.max": "50000 100000\n"}, 1),
        (
            "4:cpu,cpuacct:/pod\n0::/\n",
            {"cpu/pod/cpu.cfs_quota_us": "400000\n", "cpu/pod/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("4:cpu:/pod\n", {"cpu/pod/cpu.cfs_quota_us": "-1\n", "cpu/pod/cpu.cfs_period_us": "100000\n"}, None),
        ("", {}, None),
    ],
)
def test_the_cpu_limit(membership: str, files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    assert cpu_limit(*group(tmp_path, membership, files)) == expected


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/pod\n", {"pod/memory.events": "low 0\noom 4\noom_kill 3\n"}, 3),
        ("9:memory:/pod\n", {"memory/pod/memory.oom_control": "oom_kill_disable 0\noom_kill 2\n"}, 2),
        ("0::/pod\n", {}, 0),
    ],
)
def test_killed_for_memory(membership: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert oom_kills(*group(tmp_path, membership, files)) == expected
