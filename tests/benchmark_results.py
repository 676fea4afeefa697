"""What tests of the benchmark commands share."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from locations import ROOT

Finished: TypeAlias = "subprocess.CompletedProcess[str]"
RunModule: TypeAlias = Callable[..., Finished]

ROWS = "closed_*.rows.jsonl"
"""The answers of closed loops."""
SECONDS = 120.0
"""That a first answer may take."""


@dataclass(frozen=True)
class Interrupted:
    """A benchmark.run that was ended among its closed loops.

    files: what it left in the folder of its model and data set, by name
    """

    returncode: int
    stderr: str
    files: dict[str, str]


@dataclass(frozen=True)
class Measured:
    """Folders of data and results, and what the commands printed that made them.

    killed: the first run of coffee_ctc
    cut_short: the first run of coffee_rnnt, whose server went away
    """

    data: Path
    results: Path
    killed: Interrupted
    cut_short: Interrupted
    run: Finished
    compare: Finished
    score: Finished


def interrupt(arguments: list[object], folder: Path, stop: Callable[[subprocess.Popen[str]], object]) -> Interrupted:
    """Run benchmark.run, and call `stop` when its closed loops have a first answer in `folder`."""
    command = [sys.executable, "-m", "benchmark.run", *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + SECONDS
    while not any(map(answers, folder.glob(ROWS))):
        assert process.poll() is None and time.monotonic() < deadline, "no closed loop has an answer"
        time.sleep(0.02)
    stop(process)
    _, stderr = process.communicate(timeout=SECONDS)
    files = {file.name: file.read_text() for file in folder.iterdir() if not file.name.startswith(".")}
    return Interrupted(process.returncode, stderr, files)


def answers(rows: Path) -> list[tuple[object, object]]:
    """Load and number of each answer in a file of rows; its last line may not be whole yet."""
    entries = [json.loads(line) for line in rows.read_text().split("\n")[:-1]]
    return [(entry["load"], entry["number"]) for entry in entries if entry.get("error", "") is None]
