"""Recognize files of text, which are given as audio by mistake."""

from __future__ import annotations

import codecs
import re
from io import FileIO

_EXAMINED_BYTES = 4096
_CONTROL_CHARACTERS = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f]")
_SMALLEST_ASCII_FRACTION = 0.8
"""Of text in an 8-bit encoding, such as cp1252, which has no other mark."""
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def holds_text(file: FileIO) -> bool:
    """Whether a file starts with text: in UTF-8, in UTF-16 with a byte order mark, or in an 8-bit encoding of English.

    Args:
        file: The open file, at any position; its position changes.
    """
    file.seek(0)
    content = file.read(_EXAMINED_BYTES)
    encoding = "utf-16" if content.startswith(_UTF16_MARKS) else "utf-8"
    try:
        # Without the last character if only a part of it was read.
        text = codecs.getincrementaldecoder(encoding)().decode(content)
    except UnicodeDecodeError:
        text = content.decode("latin-1")
        if sum(map(str.isascii, text)) < _SMALLEST_ASCII_FRACTION * len(text):
            return False
    return bool(text.strip()) and not _CONTROL_CHARACTERS.search(text)
