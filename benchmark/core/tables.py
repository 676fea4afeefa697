"""Tables for Markdown and HTML, and the formats of their cells."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NONE = "-"
MB = 1e6


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: heading above it
        headings: of the columns
        rows: each with one cell per heading
        note: text under it
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def markdown(table: Table) -> str:
    """The table in Markdown, with its title and note."""
    lines = "\n".join(markdown_rows(table.headings, table.rows))
    return f"## {table.title}\n\n{lines}\n\n{table.note}\n"


def markdown_rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return [line(headings), line(["---"] * len(headings)), *map(line, rows)]


def number(value: float | None, digits: int = 0) -> str:
    """The value with `digits` decimals."""
    return NONE if value is None else f"{value:.{digits}f}"


def percentage(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage with `digits` decimals."""
    return NONE if value is None else f"{value:.{digits}%}"


def spread(values: Sequence[float], digits: int, middle: float | None = None) -> str:
    """`median (lowest to highest)`; `middle` replaces the median."""
    center = statistics.median(values) if middle is None else middle
    return f"{center:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
