"""Prune the GPU code in a shared library: keep the code for one chip and zero the rest.

A library has one fatbin per translation unit. A fatbin has one entry per architecture: machine code (ELF), or PTX that
the driver compiles. Zeroed entries keep their headers and offsets, so the library still loads, and compresses well.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECTIONS = (b".nv_fatbin", b"__nv_relfatbin")
ELF64 = b"\x7fELF\x02\x01"
"""An ELF file of 64 bits, little-endian."""
MAGIC = 0xBA55ED50
VERSION = 1
PTX, ELF = 1, 2
_SECTION = struct.Struct("<IIQQQQIIQQ")
_FATBIN = struct.Struct("<IHHQ")
"""Magic, version, header size, size of the content after the header."""
_ENTRY = struct.Struct("<HHIQ12xI")
"""Kind, version, header size, payload size, architecture (90 for sm_90)."""


@dataclass(frozen=True)
class Entry:
    """Code for one architecture.

    Attributes:
        kind: Kind of code, ELF or PTX.
        architecture: Compute capability, 90 for 9.0.
        start: Offset of the code in the file.
        size: Number of bytes.
    """

    kind: int
    architecture: int
    start: int
    size: int


@dataclass(frozen=True)
class Pruned:
    """Result of `prune`.

    Attributes:
        fatbins: Number of fatbins.
        bytes: Bytes of GPU code before.
        kept_bytes: Bytes of GPU code that were kept.
    """

    fatbins: int
    bytes: int
    kept_bytes: int


def prune(file: Path, capability: int) -> Pruned:
    """Zero the GPU code that a chip would not choose, in place.

    Args:
        file: The shared library.
        capability: Compute capability of the chip, 90 for 9.0.

    Raises:
        ValueError: The file has no GPU code of the known format, or none that runs on the chip. The file is then
            unchanged.
    """
    try:
        with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as data:
            fatbins = [fatbin for start, end in _sections(data) for fatbin in _fatbins(data, start, end)]
            entries = [entry for fatbin in fatbins for entry in fatbin]
            kept = {entry for fatbin in fatbins for entry in choose(fatbin, capability)}
            if not kept:
                known = ", ".join(map(str, sorted({entry.architecture for entry in entries}))) or "none"
                raise ValueError(f"no GPU code for compute capability {capability} (it has: {known})")
            for entry in entries:
                if entry not in kept:
                    data[entry.start : entry.start + entry.size] = bytes(entry.size)
    except (ValueError, struct.error) as error:
        raise ValueError(f"{file}: {error}") from error
    return Pruned(len(fatbins), sum(entry.size for entry in entries), sum(entry.size for entry in kept))


def choose(fatbin: Sequence[Entry], capability: int) -> list[Entry]:
    """Entries that the driver may choose: machine code for the chip's major version, else the newest usable PTX.

    Empty if the chip can't run this fatbin, for example if its kernels are for another generation only.
    """
    usable = [entry for entry in fatbin if entry.architecture <= capability]
    machine_code = [e for e in usable if e.kind == ELF and e.architecture // 10 == capability // 10]
    candidates = machine_code or [entry for entry in usable if entry.kind == PTX]
    newest = max((entry.architecture for entry in candidates), default=0)
    return [entry for entry in candidates if entry.architecture == newest]


def _sections(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Start and end of each section with fatbins."""
    if data[: len(ELF64)] != ELF64:
        raise ValueError("not an ELF file of 64 bits, little-endian")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    row_size, rows, names_row = struct.unpack_from("<HHH", data, 0x3A)
    sections = [_SECTION.unpack_from(data, table + row * row_size) for row in range(rows)]
    names = sections[names_row][4] if rows else 0
    for name, _, _, _, offset, size, *_ in sections:
        if data[names + name : data.find(b"\0", names + name)] in SECTIONS:
            yield offset, offset + size


def _fatbins(data: mmap.mmap, start: int, end: int) -> Iterator[list[Entry]]:
    while start < end:
        if data[start : start + 8] == bytes(8):
            start += 8  # padding between fatbins
            continue
        magic, version, header_size, size = _FATBIN.unpack_from(data, start)
        first, start = start + header_size, start + header_size + size
        if magic != MAGIC or version != VERSION or header_size < _FATBIN.size or start > end:
            raise ValueError(f"unknown format of GPU code at offset {first - header_size:#x}")
        yield list(_entries(data, first, start))


def _entries(data: mmap.mmap, start: int, end: int) -> Iterator[Entry]:
    while start < end:
        kind, _, header_size, size, architecture = _ENTRY.unpack_from(data, start)
        payload = start + header_size
        if kind not in (PTX, ELF) or header_size < _ENTRY.size or payload + size > end:
            raise ValueError(f"unknown kind of GPU code at offset {start:#x}")
        yield Entry(kind, architecture, payload, size)
        start = payload + size
