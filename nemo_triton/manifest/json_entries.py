"""Entries of JSON manifests: one object per line, or an array of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from nemo_triton.manifest.entry import Entry

_BETWEEN_ELEMENTS = re.compile(r"[\s,]*")
_NEXT_OBJECT = re.compile(r"[,\n]\s*(?={)")


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
    decoder = json.JSONDecoder()
    position = content.index("[") + 1
    line, counted = 1, 0
    while (position := _skip_separators(content, position)) < len(content) and content[position] != "]":
        line, counted = line + content.count("\n", counted, position), position
        try:
            entry, position = decoder.raw_decode(content, position)
        except json.JSONDecodeError as error:
            yield line, ValueError(f"not valid JSON ({error.msg}, line {error.lineno}); write an array of objects")
            position = _next_object(content, max(error.pos, position))
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


def _skip_separators(content: str, position: int) -> int:
    match = _BETWEEN_ELEMENTS.match(content, position)
    return match.end() if match else position


def _next_object(content: str, position: int) -> int:
    match = _NEXT_OBJECT.search(content, position)
    return match.end() if match else len(content)
