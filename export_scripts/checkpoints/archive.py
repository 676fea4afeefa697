"""Unpack a .nemo file, a tar archive that anyone may have written, into a folder and nowhere else."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from export_scripts.errors import RefusedFileError, excerpt

UNTRUSTED = "get the checkpoint from a source that you trust"
"""What to do about a file that NeMo's save_to can't have written."""

MAX_MEMBERS = 1000
"""NeMo writes about six."""
MAX_UNPACKED_BYTES = 16 * 2**30
"""A model of 4 billion float32 weights."""
MAX_RATIO = 10
"""Largest size of the unpacked files, in sizes of the archive. gzip makes weights only 10 % smaller."""
SMALL_BYTES = 64 * 2**20
"""Unpacked size that any archive may have."""
MAX_READ_BYTES = 2**20
"""Largest piece of an archive in memory. Tar headers are much smaller, unless they are meant to fill the memory."""
_HEADER_BYTES = 4096
"""Headers and padding of a member, at most."""

_GZIP_MAGIC = b"\x1f\x8b"
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def unpack(file: Path, folder: Path) -> None:
    """Unpack the files of a tar archive, gzipped or not, into an empty folder.

    Members are checked one by one before they are written. Owners, modes and times in the archive are ignored.

    Raises:
        RefusedFileError: A member is not a plain file or folder inside the archive, or all are too large unpacked.
        OSError, tarfile.TarError, EOFError, zlib.error, ValueError: The archive can't be read or unpacked.
    """
    most = min(MAX_UNPACKED_BYTES, max(SMALL_BYTES, MAX_RATIO * file.stat().st_size))
    with file.open("rb") as packed, _decompressed(packed) as content:
        bounded = _Bounded(content, most + MAX_MEMBERS * _HEADER_BYTES)
        unpacked = 0
        # Mode r: (without a compression) keeps tarfile from choosing bzip2 or xz, which NeMo doesn't read either.
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            for count, member in enumerate(archive, start=1):
                if count > MAX_MEMBERS:
                    raise RefusedFileError(f"has more than {MAX_MEMBERS} members; {UNTRUSTED}")
                target = _target(member, folder)
                unpacked += member.size
                if not 0 <= member.size <= unpacked <= most:
                    raise RefusedFileError(_too_large(most))
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    _write(archive, member, target)


def _decompressed(packed: BinaryIO) -> BinaryIO:
    gzipped = packed.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    packed.seek(0)
    return cast(BinaryIO, gzip.open(packed)) if gzipped else packed


def _target(member: tarfile.TarInfo, folder: Path) -> Path:
    """Return where a member goes.

    Raises:
        RefusedFileError: The member is neither a plain file nor a folder, or would leave `folder`.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise RefusedFileError(f"member {excerpt(member.name)} is outside of the archive; {UNTRUSTED}")
    if member.issparse() or not (member.isreg() or member.isdir()):
        kind = "a sparse file" if member.issparse() else _KINDS.get(member.type, "of an unknown type")
        raise RefusedFileError(f"member {excerpt(member.name)} is {kind}; a checkpoint has files only: {UNTRUSTED}")
    return folder / path


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    assert content is not None  # Only links and devices have no content.
    try:
        with content, target.open("xb") as unpacked:
            shutil.copyfileobj(content, unpacked, MAX_READ_BYTES)
    except FileExistsError:
        raise RefusedFileError(f"has two members {excerpt(member.name)}; {UNTRUSTED}") from None


def _too_large(most: int) -> str:
    return f"unpacks to more than {most / 1e6:.0f} MB, which no weights do; {UNTRUSTED}"


class _Bounded(io.RawIOBase):
    """A file of which tarfile reads small pieces of the first bytes only.

    tarfile reads headers of any size into memory, and skips members by decompressing them.
    """

    def __init__(self, content: BinaryIO, size: int) -> None:
        self._content = content
        self._size = size

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ_BYTES:
            raise RefusedFileError(f"has a header of {size} bytes; {UNTRUSTED}")
        if self.tell() + size > self._size:
            raise RefusedFileError(_too_large(self._size))
        return self._content.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or not 0 <= offset <= self._size:
            raise RefusedFileError(_too_large(self._size))
        return self._content.seek(offset)

    def tell(self) -> int:
        return self._content.tell()
