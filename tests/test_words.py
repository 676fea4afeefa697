"""Texts and names keep to the words that the project has agreed on."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import ROOT

pytestmark = pytest.mark.fast

UNWANTED = {
    r"in company": "batched with others",
    r"asked for at": "retried on",
    r"(is|are|was|were) asked for": "requested",
    r"asks for it": "requests it",
    r"of one'?s own": "your own",
    r"left unanswered": "pending",
    r"goes unanswered": "is lost",
    r"its own counters": "Triton's counters",
    r"h[eo]ld(s|ing)? against": "compared with",
    r"lest": "or, so that ... not",
    r"whoever": "name the person",
    r"the field's": "common",
    r"tak(e|es|en) up": "resumed, used again",
    r"vouch\w*": "verify",
    r"audio a second": "per second",
    r"(requests|characters|frames|recordings|samples|tokens) an? (second|step|batch|recording|encoder)": "per",
    r"at once": "concurrent, immediately",
    r"(?<!\")alone(?!\")": "unbatched, one at a time, single",
    r"speech of your own": "your own recordings",
    r"of our own": "our",
    r"each one's": "the ... of each",
    r"(so|that) many": "the number of, this number of",
    r"in vain": "say what happened",
    r"stands? (for|beside)": "means, next to",
    r"takes and gives": "inputs and outputs",
    r"(is|are|was|were|be) (asked|told)": "gets a request, is set to",
    r"save (what|at|for)": "except",
    r"is no (URL|JSON|batch size|model repository|near tie)": "is not a",
    r"goes without": "leaves out",
    r"th(is|e) very": "this, the same",
    r"by way of": "through, with",
    r"(?<!-)peers": "baselines",
    r"beside (NeMo|ours|others|each other|it|that|them)": "compared with, next to, side by side",
}
"""Patterns that must not occur, and what to write instead."""

NAMES = {"found", "made", "told", "taken", "there", "own", "one", "worst", "rest", "way", "asked"}
"""Names that don't say what a value is and that nobody can search for."""

GENERATED = ("docs/h200/", ".svg", ".html", "cuda_kernels.json", "LICENSE", ".flac", ".nemo")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.split("\0") if name and not any(part in name for part in GENERATED)]
    return [ROOT / name for name in files if (ROOT / name).is_file() and (ROOT / name) != Path(__file__)]


def assigned_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield names of variables, parameters, fields and functions, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno


@pytest.mark.parametrize(("pattern", "instead"), UNWANTED.items(), ids=list(UNWANTED))
def test_no_file_has_words_of_the_old_dialect(pattern: str, instead: str) -> None:
    # Spaces match line breaks of prose and comments, too.
    spaced = re.compile(rf"\b{pattern}\b".replace(" ", r"[ \n#*>]+"), re.IGNORECASE)
    places = []
    for file in tracked():
        text = file.read_text(encoding="utf-8", errors="replace")
        places += [
            f"{file.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}"
            for match in spaced.finditer(text)
        ]
    assert not places, f"write instead: {instead}\n" + "\n".join(places)


def test_names_name_things() -> None:
    places = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in tracked()
        if file.suffix == ".py"
        for name, line in assigned_names(ast.parse(file.read_text(encoding="utf-8")))
        if name in NAMES
    ]
    assert not places, "\n".join(places)
