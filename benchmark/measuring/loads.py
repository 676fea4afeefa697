"""Measure models with bench.py: closed loops, open loops up to capacity, and more rounds of one closed loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmark.core.constants import COMPARED_AT, MORE_ROUNDS, OPEN_REQUESTS, RATES_OF_CAPACITY
from benchmark.core.loads import fastest, whole_passes
from benchmark.core.model_control import loaded
from benchmark.core.models import Model
from benchmark.core.results_folder import ResultsError, is_measured, read_json, write_json
from benchmark.core.run_bench import Bench, rows_file, run_bench
from benchmark.data.dataset import Dataset
from nemo_triton.terminal import exit_codes
from nemo_triton.tls import Tls


@dataclass(frozen=True)
class Settings:
    """Settings that are the same for all models.

    Attributes:
        url: Address of the server as HOST:PORT. The server loads and unloads the models.
        tls: Certificates; None connects without TLS.
        metrics_url: URL of the server's metrics; None lets bench.py find it.
        out: Results folder.
        seconds: Approximate duration of each closed loop.
        concurrencies: Concurrencies of the closed loops, comma-separated.
        flags: Further flags for bench.py.
    """

    url: str
    tls: Tls | None
    metrics_url: str | None
    out: Path
    seconds: float
    concurrencies: str
    flags: tuple[str, ...]


def measure(model: Model, datasets: Sequence[Dataset], settings: Settings) -> int:
    """Measure one model with all data sets, print each load, and return the exit code."""
    runs = [ModelLoads(model, dataset, settings) for dataset in datasets]
    missing = [run for run in runs if not run.is_complete()]
    if not missing:
        click.echo(f"{model.name}: already measured")
        return exit_codes.EXIT_OK
    with loaded(settings.url, model.name, settings.tls):
        return max(run.measure() for run in missing)


class ModelLoads:
    """All loads of one model with one data set."""

    def __init__(self, model: Model, dataset: Dataset, settings: Settings) -> None:
        self.model = model
        self.dataset = dataset
        self.settings = settings
        self.code = exit_codes.EXIT_OK
        self.conditions: dict[str, Any] = {
            "parity_id": model.parity_id,
            **dataset.digests,
            "seconds": settings.seconds,
            "concurrencies": settings.concurrencies,
            "rates_of_capacity": list(RATES_OF_CAPACITY),
            "flags": list(settings.flags),
        }

    def is_complete(self) -> bool:
        """Whether the last load is already measured under the same conditions."""
        return is_measured(self._file(MORE_ROUNDS[-1]), self.conditions)

    def measure(self) -> int:
        """Measure a pilot pass, closed loops, open loops, and more rounds of one closed loop.

        The pilot's speed sets the number of requests of the closed loops; their capacity sets the rates of the open
        loops.

        Returns:
            The highest exit code of bench.py.

        Raises:
            ResultsError: The server answered no request.
        """
        name, utterances = self.dataset.description.name, self.dataset.description.utterances
        seconds = self.settings.seconds
        pilot = fastest(self._bench("pilot", "--concurrency", str(COMPARED_AT))["loads"])
        if not pilot["answered"]:
            raise ResultsError(f"on {name}: no request was answered; see the errors above")
        closed_requests = str(whole_passes(seconds * pilot["requests_per_second"], utterances))
        closed = self._bench("closed", "--concurrency", self.settings.concurrencies, "--requests", closed_requests)
        capacity = fastest(closed["loads"])["requests_per_second"]
        # Rounded, so that a resumed run has exactly the same rates.
        rates = ",".join(f"{fraction * capacity:.3g}" for fraction in RATES_OF_CAPACITY)
        open_requests = str(whole_passes(max(seconds * capacity / 2, OPEN_REQUESTS), utterances))
        self._bench("open", "--rate", rates, "--requests", open_requests)
        for kind in MORE_ROUNDS:
            self._bench(kind, "--concurrency", str(COMPARED_AT), "--requests", closed_requests)
        return self.code

    def _bench(self, kind: str, *flags: str) -> dict[str, Any]:
        """Run bench.py, or read its earlier results of the same conditions.

        Raises:
            ResultsError: bench.py wrote no results, or was interrupted.
        """
        file, name = self._file(kind), self.dataset.description.name
        if is_measured(file, self.conditions):
            measured = read_json(file)
            self.code = max(self.code, exit_codes.EXIT_PROBLEM if measured["failures"] else exit_codes.EXIT_OK)
            return measured
        file.parent.mkdir(parents=True, exist_ok=True)
        bench = Bench(
            model=self.model.name,
            url=self.settings.url,
            manifest=self.dataset.manifest,
            metrics_url=self.settings.metrics_url,
            tls=self.settings.tls,
            flags=("--worst", "5", *self.settings.flags),
        )
        rows = rows_file(file, [self.conditions, list(flags)])
        click.echo(f"{self.model.name} on {name}: {' '.join(flags)}")
        try:
            figures, code = run_bench(bench, flags, file.with_name(f"{kind}.measured.json"), rows=rows)
        except ResultsError as error:
            raise ResultsError(f"on {name}: {error}") from error
        if not figures["complete"]:
            raise ResultsError(f"on {name}: interrupted; run this again to resume")
        measured = {"conditions": self.conditions, "dataset_name": name, "rows": rows.name, **figures}
        write_json(file, measured)
        self.code = max(self.code, code)
        return measured

    def _file(self, kind: str) -> Path:
        return self.settings.out / self.model.name / self.dataset.description.name / f"{kind}.json"
