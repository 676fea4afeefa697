"""A repository's files, to compare before and after."""

from __future__ import annotations

from pathlib import Path


def snapshot(repository: Path) -> dict[str, bytes]:
    """The content of each file, by its path."""
    files = (path for path in sorted(repository.rglob("*")) if path.is_file())
    return {str(path.relative_to(repository)): path.read_bytes() for path in files}
