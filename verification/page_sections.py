"""Replace generated parts of written pages."""

from __future__ import annotations

from pathlib import Path


def write_section(page: Path, name: str, text: str) -> None:
    """Replace the part of a page between the comments `NAME:begin` and `NAME:end`.

    Raises:
        ValueError: The page lacks them.
    """
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->\n"
    content = page.read_text(encoding="utf-8")
    before, has_begin, rest_of_page = content.partition(begin)
    _, has_end, after = rest_of_page.partition(end)
    if not (has_begin and has_end):
        raise ValueError(f"{page}: has no {begin.strip()} with {end.strip()} after it; add both lines")
    page.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")
