"""Whether an Ogg file is complete."""

from __future__ import annotations

from io import FileIO

_END_BYTES = 2**16
"""An Ogg page is shorter, so the end of a file has the start of its last page."""
_HEADER_BYTES = 27
ENDLESS = "its last page is missing"


def ends(file: FileIO) -> bool:
    """Whether the last page of an Ogg file is complete and marked as the end of its stream.

    Source: RFC 3533, section 6: the third flag of a page's header type, and the sizes of its segments.
    """
    size = file.seek(0, 2)
    file.seek(max(size - _END_BYTES, 0))
    end = file.read()
    page = end[end.rfind(b"OggS") :]
    if not page.startswith(b"OggS") or len(page) <= _HEADER_BYTES:
        return False
    segments = page[_HEADER_BYTES - 1]
    sizes = page[_HEADER_BYTES : _HEADER_BYTES + segments]
    complete = len(sizes) == segments and len(page) >= _HEADER_BYTES + segments + sum(sizes)
    return complete and bool(page[5] & 4)
