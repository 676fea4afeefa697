"""How long recordings are, by a manifest."""

from __future__ import annotations

import json
from pathlib import Path

from export_scripts.errors import ExportError
from export_scripts.repository.gpu import Lengths


def read_lengths(manifest: Path) -> Lengths:
    """The shortest and the longest `duration` of NeMo's JSON lines. Raises ExportError naming the line."""
    durations = []
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{manifest}: can't be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            durations.append(float(json.loads(line)["duration"]))
        except (ValueError, TypeError, KeyError) as error:
            raise ExportError(
                f"{manifest}:{number}: no duration in seconds; --lengths takes NeMo's JSON lines, as benchmark.prepare "
                "writes them"
            ) from error
        if not 0 < durations[-1] < float("inf"):
            raise ExportError(f"{manifest}:{number}: duration is {durations[-1]:g}; it must be more than 0 seconds")
    if not durations:
        raise ExportError(f"{manifest}: holds no line")
    return Lengths(min(durations), max(durations))
