"""Good lines of manifests, and mutated ones between them, as hypothesis strategies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

RECORDING = "a.wav"
"""The recording that exists next to the manifests."""
_RECORDINGS = (RECORDING, RECORDING, "b.flac", "folder/c d.wav", "café.mp3", "it's.ogg")
_TEXTS = (
    "one coffee",
    "two, please",
    "semi; colon",
    'she said "no"',
    "café au lait",
    "it's 'quoted'",
    "a",
    " ".join("x" * 300),
)
_FRAGMENTS = (
    *('"', "'", '""', ",", ";", "\t", "{", "}", "[", "]", "\\", "\\u", "\\ud800", ":", " ", "\0", "\ufeff", "\u2028"),
    *("\x85", "\x1b[2J", "null", "NaN", "1e999", "-1", "1e305", "é", "\U0001f600", "a.wav", "/", "~", "|", "x.ark:7"),
    *("[" * 3000, "9" * 5000, "a/" * 3000, '{"a":' * 3000, '"offset": 1e305,', '"duration": 1e308,', '"channel": 3,'),
)
_RANDOM = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30)


@dataclass(frozen=True)
class Good:
    """A good line.

    Attributes:
        audio: Path of the recording, as in the manifest.
        text: Its text.
    """

    audio: str
    text: str


good_entries: st.SearchStrategy[Good] = st.builds(Good, st.sampled_from(_RECORDINGS), st.sampled_from(_TEXTS))


@dataclass(frozen=True)
class Lines:
    """Lines of a manifest.

    Attributes:
        lines: The lines, without line ends.
        good: Good entries by the index of their line.
    """

    lines: tuple[str, ...]
    good: dict[int, Good]


@st.composite
def lines_of(draw: st.DrawFn, write: Callable[[Good, int], str], *, most: int = 8) -> Lines:
    """Good lines, and mutated ones between them.

    Args:
        draw: Given by hypothesis.
        write: Writes a line for an entry and its index.
        most: Largest number of lines.
    """
    lines, good = [], {}
    for index in range(draw(st.integers(1, most))):
        entry = draw(good_entries)
        line = write(entry, index)
        if draw(st.booleans()):
            good[index] = entry
        else:
            line = draw(mutated_line(line))
        lines.append(line)
    return Lines(tuple(lines), good)


@st.composite
def mutated_line(draw: st.DrawFn, line: str) -> str:
    """A line without line breaks: mutations of a good one, or random text."""
    if draw(st.integers(0, 9)) == 0:
        return draw(_RANDOM)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(line)))
        end = start + draw(st.sampled_from((0, 0, 1, 2, 10)))
        inserted = draw(st.sampled_from(_FRAGMENTS) | st.sampled_from(("", line[:start])) | _RANDOM)
        line = line[:start] + inserted + line[end:]
    return line
