"""Helpers for tests of the benchmark commands."""

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
"""Files with the responses of closed loops."""
SECONDS = 120.0
"""Deadline of the first response."""


@dataclass(frozen=True)
class Interrupted:
    """A benchmark.run that was interrupted during its closed loops.

    Attributes:
        returncode: Exit code of the command.
        stderr: Messages of the command.
        files: Contents of the files in the folder of its model and data set, by name.
    """

    returncode: int
    stderr: str
    files: dict[str, str]


@dataclass(frozen=True)
class Measured:
    """Folders of data and results, and the output of the commands that wrote them.

    Attributes:
        data: Folder of the prepared data set.
        results: Folder of the results.
        killed: The first run of coffee_ctc, which was killed.
        cut_short: The first run of coffee_rnnt, whose server was stopped.
        run: Output of the last benchmark.run.
        compare: Output of benchmark.compare.
        score: Output of benchmark.score.
    """

    data: Path
    results: Path
    killed: Interrupted
    cut_short: Interrupted
    run: Finished
    compare: Finished
    score: Finished


def interrupt(arguments: list[object], folder: Path, stop: Callable[[subprocess.Popen[str]], object]) -> Interrupted:
    """Run benchmark.run, and call `stop` after the first response of its closed loops in `folder`."""
    command = [sys.executable, "-m", "benchmark.run", *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + SECONDS
    while not any(map(answers, folder.glob(ROWS))):
        assert process.poll() is None and time.monotonic() < deadline, "no closed loop has a response"
        time.sleep(0.02)
    stop(process)
    _, stderr = process.communicate(timeout=SECONDS)
    files = {file.name: file.read_text() for file in folder.iterdir() if not file.name.startswith(".")}
    return Interrupted(process.returncode, stderr, files)


def answers(rows: Path) -> list[tuple[object, object]]:
    """Read load and number of each response in a file of rows. The last line can be incomplete."""
    entries = [json.loads(line) for line in rows.read_text().split("\n")[:-1]]
    return [(entry["load"], entry["number"]) for entry in entries if entry.get("error", "") is None]
