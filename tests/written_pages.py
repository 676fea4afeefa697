"""Words of pages that programs write, to compare a program's texts with the committed page."""

from __future__ import annotations

import re

NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]\d+)?%?")


def words_of(page: str) -> set[str]:
    """Headings, columns and paragraphs of a Markdown page, with # for each number and without the rows of tables."""
    lines = page.splitlines()
    kept = [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if not line.startswith("|") or following.startswith("| ---")
    ]
    return {NUMBER.sub("#", line) for line in kept}
