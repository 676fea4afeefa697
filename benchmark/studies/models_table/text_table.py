"""Markdown tables whose source lines up in columns, with numbers to the right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: Heading of the column.
        cell: The text of a row.
        is_number: Whether it is aligned to the right.
    """

    title: str
    cell: Callable[[dict[str, Any]], str]
    is_number: bool = True


def table_lines(columns: Iterable[Column], rows: Iterable[dict[str, Any]]) -> list[str]:
    """The lines of a Markdown table."""
    columns, rows = list(columns), list(rows)
    texts = [[column.title, *(column.cell(row) for row in rows)] for column in columns]
    widths = [max(map(len, cells)) for cells in texts]

    def line(cells: Iterable[str]) -> str:
        padded = [
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (width - 1) + ":" if column.is_number else "-" * width
        for width, column in zip(widths, columns, strict=True)
    ]
    lines = [line(cells) for cells in zip(*texts, strict=True)]
    return [lines[0], line(rule), *lines[1:]]
