"""Tell MPEG transport streams from text with the same suffix: .ts is TypeScript, too."""

from __future__ import annotations

from pathlib import Path

TRANSPORT_STREAM_SUFFIXES = frozenset({".ts", ".mts", ".m2ts"})
"""Lower case."""
_SYNC = b"\x47"
_PACKET_BYTES = (188, 192, 204)
"""Plain; with a time stamp, as camcorders write; with error correction."""
_PACKETS = 4
_NOT_IN_TEXT = bytes(range(ord("\t")))


def is_transport_stream(path: Path) -> bool:
    """Whether a file starts with packets of an MPEG transport stream, which may be cut off at its start.

    A file that can't be opened counts as one, so that its reader says why.

    Source: ISO/IEC 13818-1, section 2.4.3: each packet starts with the byte 0x47.
    """
    try:
        with path.open("rb") as file:
            start = file.read(max(_PACKET_BYTES) * _PACKETS)
    except OSError:
        return True
    if start == start.translate(None, _NOT_IN_TEXT):
        return False
    return any(
        start[place : place + size * _PACKETS : size] == _SYNC * _PACKETS
        for size in _PACKET_BYTES
        for place in range(size)
    )
