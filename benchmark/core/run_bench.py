"""Run client/bench.py as a user does, and read what it measured."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.constants import ROOT
from benchmark.core.results_folder import ResultsError, read_json
from nemo_triton.tls import Tls

BENCH = ROOT / "client" / "bench.py"
END_SECONDS = 10
"""That bench.py gets to end its own processes."""


@dataclass(frozen=True)
class Bench:
    """What is measured, and where.

    Attributes:
        model: the recognizer
        url: HOST:PORT of the server
        manifest: the utterances
        metrics_url: of the server; None takes bench.py's default
        tls: how the server is reached; None is without TLS
        flags: more of bench.py's own
    """

    model: str
    url: str
    manifest: Path
    metrics_url: str | None = None
    tls: Tls | None = None
    flags: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """bench.py's flags for all of it."""
        metrics = ["--metrics-url", self.metrics_url] if self.metrics_url else []
        where = ["--model", self.model, "--url", self.url, *tls_flags(self.tls), *metrics]
        return [*where, "--manifest", str(self.manifest), *self.flags]


def run_bench(
    bench: Bench, flags: Sequence[str], fresh: Path, *, rows: Path | None = None, timeout: float | None = None
) -> tuple[dict[str, Any], int]:
    """Run bench.py once.

    Args:
        bench: what is measured
        flags: of this run: its loads
        fresh: file that bench.py writes its JSON to; removed before and after
        rows: file of all answers; where it exists, the run that wrote it is resumed
        timeout: seconds that the run may take

    Returns:
        bench.py's JSON and exit code.

    Raises:
        ResultsError: there are no figures.
        subprocess.TimeoutExpired: the run took longer than `timeout`.
    """
    fresh.unlink(missing_ok=True)
    command = [sys.executable, str(BENCH), *bench.arguments(), *flags, "--json", str(fresh)]
    if rows is not None:
        command += ["--rows", str(rows), *(["--resume"] if rows.exists() else [])]
    # Its tables are for a person who measures one model; here the figures go to a report.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        code = process.wait(timeout)
    finally:
        end(process)
    if not fresh.exists():
        raise ResultsError(f"no figures: bench.py ended with code {code}")
    figures = read_json(fresh)
    fresh.unlink()
    return figures, code


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs; gently at first, so that it can end its own processes."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tls_flags(tls: Tls | None) -> list[str]:
    """bench.py's flags for TLS."""
    if tls is None:
        return []
    files = {"--ca": tls.ca, "--certificate": tls.certificate, "--key": tls.key}
    return ["--tls", *(part for flag, file in files.items() if file for part in (flag, str(file)))]


def rows_file(results: Path, what: object) -> Path:
    """The file of answers beside `results`, named by what is measured, so that other answers are never resumed."""
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]
    return results.with_name(f"{results.stem}_{digest}.rows.jsonl")


def read_answers(rows: Path) -> list[dict[str, Any]]:
    """The rows of requests that got a text, in their order."""
    # Not splitlines(), which also splits at characters that JSON allows inside a string, such as U+2028.
    entries = [json.loads(line) for line in rows.read_text(encoding="utf-8").split("\n") if line]
    return [entry for entry in entries if entry.get("error", "") is None]


def first_texts(answers: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The first text of each recording, by audio file."""
    texts: dict[str, str] = {}
    for answer in answers:
        texts.setdefault(answer["audio"], answer["text"])
    return texts
