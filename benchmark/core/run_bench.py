"""Run client/bench.py as a user does, and read its results."""

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
"""Time for bench.py to end its sending processes."""


@dataclass(frozen=True)
class Bench:
    """The recognizer to measure, its server and the utterances.

    Attributes:
        model: Name of the recognizer.
        url: Address of the server as HOST:PORT.
        manifest: Manifest of the utterances.
        metrics_url: URL of the server's metrics; None uses bench.py's default.
        tls: Certificates; None connects without TLS.
        flags: Further flags of bench.py.
    """

    model: str
    url: str
    manifest: Path
    metrics_url: str | None = None
    tls: Tls | None = None
    flags: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Command-line arguments for bench.py."""
        metrics = ["--metrics-url", self.metrics_url] if self.metrics_url else []
        where = ["--model", self.model, "--url", self.url, *tls_flags(self.tls), *metrics]
        return [*where, "--manifest", str(self.manifest), *self.flags]


def run_bench(
    bench: Bench, flags: Sequence[str], fresh: Path, *, rows: Path | None = None, timeout: float | None = None
) -> tuple[dict[str, Any], int]:
    """Run bench.py once.

    Args:
        bench: Recognizer, server and utterances.
        flags: Flags of this run, such as its loads.
        fresh: File for bench.py's JSON; removed before and after the run.
        rows: File of all responses; if it exists, the run that wrote it is resumed.
        timeout: Longest duration of the run, in seconds.

    Returns:
        bench.py's JSON and its exit code.

    Raises:
        ResultsError: bench.py wrote no results.
        subprocess.TimeoutExpired: The run took longer than `timeout`.
    """
    fresh.unlink(missing_ok=True)
    command = [sys.executable, str(BENCH), *bench.arguments(), *flags, "--json", str(fresh)]
    if rows is not None:
        command += ["--rows", str(rows), *(["--resume"] if rows.exists() else [])]
    # Without its tables: they are for people, and the results go to a report.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        code = process.wait(timeout)
    finally:
        end(process)
    if not fresh.exists():
        raise ResultsError(f"bench.py ended with code {code} and wrote no results; see its error above")
    figures = read_json(fresh)
    fresh.unlink()
    return figures, code


def end(process: subprocess.Popen[bytes]) -> None:
    """End a running process. SIGTERM comes first, so that it can end its child processes."""
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
    """File for the responses, next to `results`. Its name has a digest of `what`: only the same run is resumed."""
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]
    return results.with_name(f"{results.stem}_{digest}.rows.jsonl")


def read_responses(rows: Path) -> list[dict[str, Any]]:
    """The rows of all requests, answered or failed, in file order."""
    # splitlines() would also split at characters that JSON allows inside a string, such as U+2028.
    entries = [json.loads(line) for line in rows.read_text(encoding="utf-8").split("\n") if line]
    return [entry for entry in entries if "error" in entry]


def read_answers(rows: Path) -> list[dict[str, Any]]:
    """The rows of answered requests, in file order."""
    return [response for response in read_responses(rows) if response["error"] is None]


def first_texts(answers: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The first transcript of each recording, by audio file."""
    texts: dict[str, str] = {}
    for answer in answers:
        texts.setdefault(answer["audio"], answer["text"])
    return texts
