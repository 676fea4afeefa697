"""The files that a reader gets in one check."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "file"
"""Stem of the file that is read, or name of the folder. Errors must have it."""


@dataclass(frozen=True)
class Input:
    """Files, and how to read them.

    Attributes:
        files: Content by path in the folder of the check.
        path: The file or folder to read.
        arguments: Further arguments of the reader.
        expected: What the result must contain; None if anything goes.
    """

    files: Mapping[str, bytes]
    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    expected: Any = None

    @classmethod
    def of(cls, suffix: str, content: bytes, expected: Any = None, **arguments: Any) -> Input:
        """A single file."""
        path = f"{NAME}.{suffix}"
        return cls({path: content}, path, arguments, expected)

    def write(self, folder: Path) -> Path:
        """Write the files, and return the path to read."""
        shutil.rmtree(folder / NAME, ignore_errors=True)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder / self.path
