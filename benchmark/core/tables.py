"""Tables for Markdown and HTML, and the formats of their cells."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NONE = "-"
MB = 1e6
_NUMBER = re.compile(r"[\d.,]+ ?%?( to [\d.,]+| \([\d.,]+ to [\d.,]+\)|/\d+)?")


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: Heading above the table.
        headings: Headings of the columns.
        rows: Rows with one cell per heading.
        note: Text below the table.
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

    rows = list(rows)
    numeric = numeric_columns(rows)
    marks = ["---:" if column in numeric else "---" for column in range(len(headings))]
    return [line(headings), line(marks), *map(line, rows)]


def numeric_columns(rows: Sequence[Sequence[str]]) -> set[int]:
    """The columns, by index, that hold numbers, ranges or fractions only."""
    return {
        column
        for column in range(len(rows[0]) if rows else 0)
        if all(row[column] in ("", NONE) or _NUMBER.fullmatch(row[column]) for row in rows)
        and any(row[column] not in ("", NONE) for row in rows)
    }


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
