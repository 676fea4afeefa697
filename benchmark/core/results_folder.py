"""A results folder: one JSON file per measurement, each written completely or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_triton.errors import ClientError


class ResultsError(ClientError):
    """A results folder can't be used."""


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file completely or not at all, even if interrupted. Creates its folder."""
    # json.dumps escapes all but ASCII: file names and texts need not be valid Unicode.
    write_text(file, json.dumps(content, indent=1) + "\n")


def write_text(file: Path, content: str) -> None:
    """Write a file completely or not at all, even if interrupted. Creates its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(content, encoding="utf-8")
    partial.rename(file)


def read_json(file: Path) -> dict[str, Any]:
    """Read a results file.

    Raises:
        ResultsError: The file can't be read, or is not a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{file}: not readable as results ({error}); remove it and measure again") from error
    if not isinstance(content, dict):
        raise ResultsError(f"{file}: not readable as results (not a JSON object); remove it and measure again")
    return content


def is_measured(file: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether the file holds results that were measured under exactly the `wanted` conditions."""
    return file.exists() and read_json(file).get("conditions") == dict(wanted)
