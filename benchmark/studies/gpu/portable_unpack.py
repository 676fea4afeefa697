"""Join the parts in this file's folder and unpack them: `python3 unpack.py [ROOT]`, by default to /.

Copied next to the parts as unpack.py. Needs Python 3.8 and no packages. Blocks of zeros become holes, which need no
disk space.
"""

from __future__ import annotations

import io
import lzma
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

ARCHIVE = "serve.tar.xz"
BLOCK = 4096
"""Size of the smallest hole in bytes, a block of the file system."""


class Parts(io.RawIOBase):
    """A stream that reads several files as one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._file = io.BytesIO()  # type: IO[bytes]

    def readable(self) -> bool:
        """As io.RawIOBase."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As io.RawIOBase."""
        while True:
            block = self._file.read(len(buffer))
            if block or not self._files:
                buffer[: len(block)] = block
                return len(block)
            self._file.close()
            self._file = self._files.pop(0).open("rb")


def find_parts(folder: Path) -> list[Path]:
    """Find the parts in a folder, in order.

    Raises:
        ValueError: A part is missing.
    """
    parts = {int(file.suffix[1:]): file for file in folder.glob(f"{ARCHIVE}.*") if file.suffix[1:].isdigit()}
    missing = sorted(set(range(max(parts, default=0) + 1)) - set(parts))
    if missing:
        raise ValueError(f"{folder / ARCHIVE}.{missing[0]:02}: part is missing; copy it here too")
    return [parts[number] for number in sorted(parts)]


def unpack(folder: Path, root: Path) -> int:
    """Unpack the parts in `folder` below `root`. Returns the number of files."""
    count = 0
    parts = io.BufferedReader(Parts(find_parts(folder)))
    with lzma.open(parts) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        for member in archive:
            target = root / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_symlink() or target.exists():
                target.unlink()
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                target.symlink_to(member.linkname)
            else:
                _write_sparse(target, content)
                target.chmod(member.mode)
            count += 1
    return count


def _write_sparse(target: Path, content: IO[bytes]) -> None:
    with target.open("wb") as file:
        for block in iter(lambda: content.read(BLOCK), b""):
            if block.count(0) == len(block):
                file.seek(len(block), io.SEEK_CUR)
            else:
                file.write(block)
        file.truncate()


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "/")
    try:
        print(f"{unpack(Path(__file__).resolve().parent, root)} files unpacked below {root}")
    except EOFError:
        sys.exit(f"error: {ARCHIVE} ends early: the last parts are missing or cut off; copy them again")
    except (OSError, ValueError, lzma.LZMAError, tarfile.TarError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
