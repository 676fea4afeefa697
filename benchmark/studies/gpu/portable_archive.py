"""A reproducible .tar.xz in parts: the same files produce the same bytes."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, cast

FILTERS = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}]
"""The x86 filter makes jumps absolute, so that machine code compresses better."""


class Parts(io.RawIOBase):
    """A stream that writes FILE.00, FILE.01, ... of at most `size` bytes each."""

    def __init__(self, file: Path, size: int) -> None:
        self.written: list[Path] = []
        self._file, self._size, self._room = file, size, 0
        self._part: IO[bytes] = io.BytesIO()
        for old in file.parent.glob(f"{file.name}.[0-9]*"):
            old.unlink()

    def writable(self) -> bool:
        """As io.RawIOBase."""
        return True

    def write(self, data: Any) -> int:
        """As io.RawIOBase; the data may span several parts."""
        remaining = memoryview(data)
        total = len(remaining)
        while remaining:
            if not self._room:
                self._part.close()
                self.written.append(self._file.with_name(f"{self._file.name}.{len(self.written):02}"))
                self._part, self._room = self.written[-1].open("wb"), self._size
            chunk, remaining = remaining[: self._room], remaining[self._room :]
            self._room -= self._part.write(chunk)
        return total

    def close(self) -> None:
        """As io.RawIOBase."""
        self._part.close()
        super().close()


class Archive:
    """A tar archive of files with absolute target paths."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.bytes = 0

    def add(self, path: str, source: Path) -> None:
        """Add a file; links are followed."""
        with source.open("rb") as content:
            info = self._info(path, source.stat().st_size, 0o755 if source.stat().st_mode & 0o100 else 0o644)
            self._tar.addfile(info, content)

    def add_text(self, path: str, text: str, mode: int = 0o644) -> None:
        """Add a text file."""
        content = text.encode()
        self._tar.addfile(self._info(path, len(content), mode), io.BytesIO(content))

    def add_link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        info = self._info(path, 0, 0o777)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(info)

    def add_folder(self, path: str, folder: Path, files: Iterable[Path], left_out: Iterable[str]) -> None:
        """Add files of a folder, without those that match a pattern.

        Args:
            path: Target path of the folder.
            folder: The folder.
            files: Files to add, relative to the folder.
            left_out: Patterns of files to leave out.
        """
        for file in sorted(files):
            if not any(fnmatchcase(f"/{file}", pattern) for pattern in left_out):
                self.add(f"{path}/{file}", folder / file)

    def _info(self, path: str, size: int, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(path.lstrip("/"))
        info.size, info.mode = size, mode
        self.bytes += size
        return info


@contextmanager
def open_archive(parts: Parts) -> Iterator[Archive]:
    """Open an archive that is written into `parts`. If the block fails, all parts are removed."""
    try:
        with (
            parts,
            lzma.open(cast("IO[bytes]", parts), "wb", format=lzma.FORMAT_XZ, filters=FILTERS) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            yield Archive(tar)
    except BaseException:
        for part in parts.written:
            part.unlink(missing_ok=True)
        raise
