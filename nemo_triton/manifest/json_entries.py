"""Entries of JSON manifests: one object per line, or an array of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from nemo_triton.manifest.entry import Entry

_BETWEEN_ELEMENTS = re.compile(r"[\s,]*")
_NEXT_OBJECT = re.compile(r"[,\n]\s*(?={)")

_DECODER = json.JSONDecoder()
_SHORTEST_WINDOW = 4096
_WINDOW_GROWTH = 16
_LONGEST_LITERAL = len("-Infinity")


def line_entries(content: str) -> Iterator[Entry]:
    """Entries of JSON lines."""
    # splitlines() would also split at characters that JSON allows in a string, such as U+2028.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            yield number, ValueError(f"not valid JSON ({error.msg}, column {error.colno}); write one object per line")
        except (ValueError, RecursionError) as error:
            yield number, ValueError(f"not usable JSON ({error}); write one object per line")
        else:
            yield number, entry if isinstance(entry, dict) else ValueError("not a JSON object; write one per line")


def array_entries(content: str) -> Iterator[Entry]:
    """Entries of a JSON array of objects. After a damaged object, reading continues at the next one."""
    position = content.index("[") + 1
    line, counted = 1, 0
    while (position := _skip_separators(content, position)) < len(content) and content[position] != "]":
        line, counted = line + content.count("\n", counted, position), position
        try:
            entry, position = _decode(content, position)
        except json.JSONDecodeError as error:
            where = line + error.lineno - 1
            yield line, ValueError(f"not valid JSON ({error.msg}, line {where}); write an array of objects")
            position = _next_object(content, position + error.pos)
        except ValueError as error:
            yield line, ValueError(f"not usable JSON ({error}); write an array of objects")
            position = _next_object(content, position)
        except RecursionError:
            # Reading on at an inner object would run into the same depth again and again.
            yield line, ValueError("not usable JSON (nested too deeply), nor what follows; write an array of objects")
            return
        else:
            yield line, entry if isinstance(entry, dict) else ValueError("not a JSON object; write an array of objects")
    if content[position + 1 :].strip():
        line += content.count("\n", counted, position + 1)
        yield line, ValueError("text after the end of the JSON array; write a single array, or one object per line")


def _decode(content: str, position: int) -> tuple[Any, int]:
    """The value at a position, and the position after it. An error's position and line count from `position`."""
    # An error counts the lines of the whole text before it, so a file with many errors is decoded in short windows.
    window = _SHORTEST_WINDOW
    while True:
        text = content[position : position + window]
        complete = position + window >= len(content)
        try:
            entry, end = _DECODER.raw_decode(text)
        except json.JSONDecodeError as error:
            if complete or not (error.msg.startswith("Unterminated") or error.pos > len(text) - _LONGEST_LITERAL):
                raise
        else:
            if complete or end < len(text):
                return entry, position + end
        window *= _WINDOW_GROWTH


def _skip_separators(content: str, position: int) -> int:
    match = _BETWEEN_ELEMENTS.match(content, position)
    return match.end() if match else position


def _next_object(content: str, position: int) -> int:
    match = _NEXT_OBJECT.search(content, position)
    return match.end() if match else len(content)
