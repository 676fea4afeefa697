"""Measure a served recognizer in closed loops with client/bench.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.loads import fastest, whole_passes
from benchmark.core.model_control import only
from benchmark.core.results_folder import ResultsError, is_measured, read_json, write_json
from benchmark.core.run_bench import Bench, first_texts, read_answers, rows_file, run_bench
from benchmark.core.serving import serving
from benchmark.data.dataset import Dataset

LOAD_SECONDS = 1800
"""Time that the server may take to start; TensorRT may build its engines first."""


@dataclass(frozen=True)
class Loads:
    """Loads on each server.

    Attributes:
        concurrencies: Concurrent requests of the closed loops, comma-separated.
        seconds: Approximate length of each loop.
        flags: More flags for bench.py.
    """

    concurrencies: str
    seconds: float
    flags: tuple[str, ...]


def measure_served(
    repository: Path, model: str, dataset: Dataset, loads: Loads, file: Path, *, conditions: dict[str, Any]
) -> dict[str, Any]:
    """Measure all loads. Results in `file` of the same conditions are reused.

    A pass over the data set at the middle concurrency comes first. It warms the server up and shows how many requests
    fill the seconds.

    Raises:
        ClientError: The server does not start, or no request succeeds.
    """
    conditions = {
        **conditions,
        **dataset.digests,
        "concurrencies": loads.concurrencies,
        "seconds": loads.seconds,
        "flags": list(loads.flags),
    }
    if is_measured(file, conditions):
        return read_json(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = rows_file(file, conditions)
    with serving(repository, only(repository, model), LOAD_SECONDS) as server:
        metrics_url = f"http://{server.metrics}/metrics"
        bench = Bench(
            model=model, url=server.grpc, manifest=dataset.manifest, metrics_url=metrics_url, flags=loads.flags
        )
        concurrencies = loads.concurrencies.split(",")
        pilot = _pilot(bench, concurrencies[len(concurrencies) // 2], file.with_suffix(".pilot.json"), conditions)
        requests = whole_passes(loads.seconds * pilot["requests_per_second"], dataset.description.utterances)
        flags = ["--concurrency", loads.concurrencies, "--requests", str(requests)]
        figures, _ = run_bench(bench, flags, file.with_suffix(".measured.json"), rows=rows)
    if not figures["complete"]:
        raise ResultsError("interrupted; run the command again to continue")
    failures = figures["failures"]
    if failures:
        raise ResultsError(f"{len(failures)} requests failed; the first error: {failures[0]}; see the server's log")
    names = ("loads", "changed_texts", "parity_id", "random_weights", "machine", "versions")
    kept = {name: figures[name] for name in names}
    result = {"conditions": conditions, "requests": requests, **kept, "texts": first_texts(read_answers(rows))}
    write_json(file, result)
    return result


def _pilot(bench: Bench, concurrency: str, file: Path, conditions: dict[str, Any]) -> dict[str, Any]:
    """Measure one pass. Its result is kept, so that a continued run sends the same number of requests."""
    if not is_measured(file, conditions):
        figures, _ = run_bench(bench, ["--concurrency", concurrency], file.with_suffix(".fresh.json"))
        write_json(file, {"conditions": conditions, "load": fastest(figures["loads"])})
    load: dict[str, Any] = read_json(file)["load"]
    if not load["answered"]:
        raise ResultsError("no request succeeded; see the errors above")
    return load
