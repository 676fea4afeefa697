"""The files of a repository, for comparisons before and after."""

from __future__ import annotations

from pathlib import Path


def snapshot(repository: Path) -> dict[str, bytes]:
    """Content of each file by its path."""
    files = (path for path in sorted(repository.rglob("*")) if path.is_file())
    return {str(path.relative_to(repository)): path.read_bytes() for path in files}
