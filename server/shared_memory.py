"""Find out before the start whether /dev/shm is large enough for the longest audio.

Triton's Python backend passes tensors to the models' processes through it. Docker's default is 64 MB.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from server.repositories import local_repositories

FOLDER = Path("/dev/shm")
_NEED = re.compile(r'key:\s*"shared_memory_bytes"\s*value\s*{\s*string_value:\s*"(\d+)"')
"""The parameter of a recognizer's configuration that the export writes. It is read without protobuf."""


def size_of_shared_memory() -> int:
    """Size of /dev/shm in bytes; 0 if there is none."""
    try:
        numbers = os.statvfs(FOLDER)
    except OSError:
        return 0
    return numbers.f_blocks * numbers.f_frsize


def shared_memory_warning(arguments: Sequence[str], size: int) -> str | None:
    """Return a warning if a recognizer in the command's repositories needs more shared memory; None if not.

    Args:
        arguments: The command's arguments.
        size: Size of /dev/shm in bytes.
    """
    needs = {
        config.parent.name: int(need)
        for repository in local_repositories(arguments)
        for config in repository.glob("*/config.pbtxt")
        for need in _NEED.findall(_read(config))
    }
    model = max(needs, key=lambda name: needs[name], default=None)
    if model is None or needs[model] <= size:
        return None
    return (
        f"{FOLDER} has {_megabytes(size)} and 16 concurrent requests of {model}'s longest audio need "
        f"{_megabytes(needs[model])}; enlarge it (Docker: --shm-size), or export with a lower --max-audio-seconds"
    )


def _read(config: Path) -> str:
    """A configuration; empty if it can't be read, which Triton reports."""
    try:
        return config.read_text(errors="replace")
    except OSError:
        return ""


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
