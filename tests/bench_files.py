"""Write manifests and read rows of bench.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

Spoken: TypeAlias = list[tuple[Path, str]]


def write_manifest(path: Path, spoken: Spoken, *more_lines: str) -> Path:
    lines = [json.dumps({"audio_filepath": str(audio), "text": text}) for audio, text in spoken]
    path.write_text("\n".join([*lines, *more_lines]) + "\n")
    return path


def answers(rows: Path) -> list[Any]:
    """Read the responses in a file of rows."""
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    return [line for line in lines if "number" in line]
