"""The Markdown pages of the project and the commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from locations import ROOT

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: Path of the page, relative to the project.
        line: Line of its first fence, from 1.
        language: Language that the fence names, such as sh; empty if it names none.
        text: The lines between the fences.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command line of a `sh` block, with continued lines joined."""

    text: str
    block: Block

    def __str__(self) -> str:
        return f"{self.block}: {self.text}"


def pages() -> list[Path]:
    """Pages that people read: README, docs/ and the pages next to the files that they describe."""
    folders = ("docs", "docker", "demo", "model_repository")
    described = [page for folder in folders for page in sorted((ROOT / folder).rglob("*.md"))]
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *described]


def blocks() -> Iterator[Block]:
    """Yield all fenced blocks of all pages."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Block(str(page.relative_to(ROOT)), line, match["language"], match["text"])


def commands() -> list[Command]:
    """Return the commands of all `sh` blocks, without comments and empty lines."""
    return [
        Command(" ".join(line.split()), block)
        for block in blocks()
        if block.language == "sh"
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
