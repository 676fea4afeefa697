"""Kill one process of a stage while bench.py sends requests to two servers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.core.results_folder import ResultsError
from benchmark.core.run_bench import Bench, first_texts, read_answers, read_responses, run_bench
from verification.faults.kill_judge import Requests, StageKill, count_requests
from verification.faults.restarting import Outage, RestartingServer
from verification.server_processes import stages_of

RESTART_SECONDS = 120.0
"""Longest wait for the restarted server."""
_POLL_SECONDS = 0.05


class _Killer(threading.Thread):
    """Kills a process once a run has enough responses.

    Attributes:
        killed: Time of the kill, of time.monotonic(); None if the run ended before.
    """

    def __init__(self, process: int, rows: Path, responses: int) -> None:
        super().__init__(daemon=True)
        self.killed: float | None = None
        self._process, self._rows, self._responses = process, rows, responses
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            # The first line of the file describes the run.
            if self._rows.exists() and self._rows.read_bytes().count(b"\n") > self._responses:
                self.killed = time.monotonic()
                os.kill(self._process, signal.SIGKILL)
                return

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def run_undisturbed(bench: Bench, folder: Path, requests: int) -> tuple[Requests, dict[str, str]]:
    """Run bench.py without a kill.

    Args:
        bench: The recognizer and the addresses of its servers.
        folder: Folder for bench.py's files.
        requests: Number of requests.

    Returns:
        The requests, and the text of each audio file.
    """
    rows = folder / "undisturbed.rows.jsonl"
    figures = _run(bench, rows, requests)
    texts = first_texts(read_answers(rows))
    return count_requests(read_responses(rows), figures, sent=requests, texts=texts), texts


def run_disturbed(bench: Bench, folder: Path, requests: int, texts: Mapping[str, str]) -> Requests:
    """Run bench.py while its servers have faults.

    Args:
        bench: The recognizer and the addresses of its servers.
        folder: Folder for bench.py's files.
        requests: Number of requests.
        texts: Text of each audio file in the undisturbed run.

    Raises:
        ResultsError: bench.py wrote no results.
    """
    return _run_and_count(bench, folder / "disturbed.rows.jsonl", requests, texts)


def kill_stage(
    bench: Bench,
    victim: RestartingServer,
    stage: str,
    folder: Path,
    *,
    requests: int,
    after: int,
    texts: Mapping[str, str],
) -> StageKill:
    """Run bench.py, and kill a stage's process of one server under load.

    Args:
        bench: The recognizer and the addresses of its servers.
        victim: The server that loses a process.
        stage: Name of the stage.
        folder: Folder for bench.py's files.
        requests: Number of requests.
        after: Number of responses before the kill.
        texts: Text of each audio file in the undisturbed run.

    Raises:
        ResultsError: The run ended before the kill, or bench.py wrote no results.
    """
    rows = folder / "killed.rows.jsonl"
    # The killer must not count the responses of an earlier run.
    rows.unlink(missing_ok=True)
    killer = _Killer(stages_of(victim.pid)[stage][0], rows, after)
    killer.start()
    try:
        counted = _run_and_count(bench, rows, requests, texts)
    finally:
        killer.stop()
    if killer.killed is None:
        raise ResultsError(f"{stage}: the run ended before the kill; use more requests")
    outage = _wait_for_restart(victim, killer.killed)
    began, ended, ready = (
        None if moment is None else moment - killer.killed for moment in (outage.began, outage.ended, outage.ready)
    )
    return StageKill(
        stage=stage,
        not_ready=began,
        ended=ended,
        ready_again=ready,
        code=outage.code,
        line=outage.line,
        requests=counted,
    )


def _run_and_count(bench: Bench, rows: Path, requests: int, texts: Mapping[str, str]) -> Requests:
    figures = _run(bench, rows, requests)
    return count_requests(read_responses(rows), figures, sent=requests, texts=texts)


def _wait_for_restart(victim: RestartingServer, killed: float) -> Outage:
    """The outage after a kill, once it is over or has lasted too long."""
    deadline = time.monotonic() + RESTART_SECONDS
    while victim.outage_after(killed).ready is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return victim.outage_after(killed)


def _run(bench: Bench, rows: Path, requests: int) -> dict[str, Any]:
    """Run bench.py; its exit code repeats what the responses say."""
    rows.unlink(missing_ok=True)
    flags = ["--requests", str(requests), "--order", "given"]
    figures, _ = run_bench(bench, flags, rows.with_name("figures.json"), rows=rows)
    return figures
