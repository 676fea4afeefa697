"""The search for the highest rate that keeps a latency objective, on simulated and on real servers."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench_files import answers

from nemo_triton.loadtest.measure import LoadRun, Session
from nemo_triton.loadtest.recording import Response
from nemo_triton.loadtest.schedule import ClosedLoop, Load, OpenLoop
from nemo_triton.loadtest.slo import PRECISION, Objective, Search, Trial, judge

OBJECTIVE = Objective(95, 500.0)


def run_of(load: Load, latencies: list[float], failed: int = 0, seconds: float = 10.0) -> LoadRun:
    """A load whose requests were due at equal intervals."""
    responses = [
        Response(
            number=number,
            recording=0,
            text="",
            due=seconds * number / len(latencies),
            sent=0.0,
            answered=seconds * number / len(latencies) + latency,
            error="refused" if number < failed else None,
        )
        for number, latency in enumerate(latencies)
    ]
    return LoadRun(load, responses, [Session(wall_seconds=seconds)])


async def search_on(capacity: float, limit: float, single_ms: float = 50.0) -> Search:
    """Search on a simulated server with a throughput of `capacity` that keeps the objective up to the rate `limit`."""

    async def run_trial(load: Load) -> Trial:
        if isinstance(load, OpenLoop):
            miss = "" if load.rate <= limit else "p95 is 900 ms"
            return Trial(load=load, requests=round(load.rate * 10), requests_per_second=load.rate, miss=miss)
        throughput = min(load.concurrency / single_ms * 1000, capacity)
        miss = "" if single_ms <= 500 and load.concurrency / throughput <= 0.5 else "p95 is 820 ms"
        return Trial(load=load, requests=100, requests_per_second=throughput, miss=miss)

    search = Search(OBJECTIVE)
    await search.run(run_trial)
    return search


@pytest.mark.fast
@pytest.mark.parametrize(
    ("text", "percentile", "limit_ms"),
    [("p95=500ms", 95, 500), ("p50=1.5s", 50, 1500), ("p99 = 2 s", 99, 2000), ("p90=80ms", 90, 80)],
)
def test_objectives(text: str, percentile: int, limit_ms: float) -> None:
    assert Objective.parse(text) == Objective(percentile, limit_ms)


@pytest.mark.fast
def test_a_refused_request_misses_the_objective() -> None:
    run = run_of(OpenLoop(10.0), [0.1] * 100)
    run.responses[7] = replace(run.responses[7], error="the queue is full", refused=True)
    assert judge(run, OBJECTIVE).miss == "1 of 100 requests refused"


@pytest.mark.fast
@pytest.mark.parametrize("text", ["p95=fast", "p95=500", "p75=1s", "p95=0ms", "500ms", "p95=-1s", "p95=1h", ""])
def test_bad_objectives_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an objective; write it as p95=500ms \(one of p50, p90, p95, p99"):
        Objective.parse(text)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("capacity", "limit", "single_ms"),
    [(40, 35, 50), (40, 39.9, 50), (40, 2.2, 50), (40, 60, 50), (1000, 710, 50), (2.5, 1.3, 400), (20, 17, 60)],
)
async def test_the_search_finds_the_highest_rate_within_5_percent(
    capacity: float, limit: float, single_ms: float
) -> None:
    search = await search_on(capacity, limit, single_ms)
    assert search.best is not None and isinstance(search.best.load, OpenLoop)
    assert search.missed_rate is not None
    assert search.best.load.rate <= limit < search.missed_rate <= PRECISION * search.best.load.rate
    assert search.failure is None
    assert len(search.trials) <= 16 and len({trial.load for trial in search.trials}) == len(search.trials)


@pytest.mark.fast
async def test_an_objective_that_a_single_request_misses() -> None:
    search = await search_on(40.0, 10.0, single_ms=820.0)
    assert [trial.load for trial in search.trials] == [ClosedLoop(1)]
    assert search.failure == "p95 is 820 ms with one request at a time: no rate keeps p95 <= 500 ms"


@pytest.mark.fast
async def test_an_objective_that_every_rate_misses() -> None:
    search = await search_on(40.0, 0.0)
    assert search.best is None and search.failure is not None
    lowest = search.trials[-1].load
    assert isinstance(lowest, OpenLoop) and lowest.rate < 1.0
    assert search.failure == f"p95 is 900 ms at {lowest.rate:g} requests per second: no rate keeps p95 <= 500 ms"


@pytest.mark.fast
def test_a_load_is_judged_by_its_percentile_failures_and_backlog() -> None:
    steady = [0.1, 0.12, 0.08] * 33
    load = OpenLoop(10.0)
    assert judge(run_of(load, steady), OBJECTIVE).miss == ""
    assert judge(run_of(load, [*steady, 2.0]), OBJECTIVE).kept, "1 % of slow requests is allowed at p95"
    assert judge(run_of(load, [0.6] * 99), OBJECTIVE).miss == "p95 is 600 ms"
    assert judge(run_of(load, steady, failed=1), OBJECTIVE).miss == "1 of 99 requests failed"
    overloaded = [0.1 + 0.02 * number for number in range(100)]
    assert judge(run_of(load, overloaded), Objective(95, 3000.0)).miss == "the backlog grows"
    assert judge(run_of(ClosedLoop(4), overloaded), Objective(95, 3000.0)).kept, "a closed loop has no backlog"


@pytest.mark.fast
def test_a_trial_lasts_long_enough_for_its_percentile() -> None:
    assert OBJECTIVE.trial_seconds(OpenLoop(100.0)) == 10
    assert OBJECTIVE.trial_seconds(OpenLoop(5.0)) == pytest.approx(20)
    assert OBJECTIVE.trial_seconds(OpenLoop(0.1)) == 60


def test_bench_searches_the_highest_rate_on_a_real_server(triton: Any, run_command: Any, tmp_path: Path) -> None:
    files = ("--json", tmp_path / "out.json", "--csv", tmp_path / "out.csv", "--rows", tmp_path / "rows.jsonl")
    server = ("--url", triton.url, "--metrics-url", triton.metrics)
    done = run_command("bench", *server, "--slo", "p95=400ms", "--duration", 0.7, *files)
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads((tmp_path / "out.json").read_text())
    slo, loads = figures["slo"], {load["name"]: load for load in figures["loads"]}
    assert (slo["objective"], slo["percentile"], slo["limit_ms"]) == ("p95 <= 400 ms", "p95", 400.0)
    best = loads[f"{slo['rate']:g} per second"]
    assert best["latency_ms"]["p95"] <= 400 and best["failed"] == 0
    assert slo["rtfx"] == best["rtfx"] and slo["latency_ms"] == best["latency_ms"]
    assert slo["lowest_missed_rate"] is None or slo["rate"] < slo["lowest_missed_rate"]
    assert [trial["name"] for trial in slo["trials"]] == list(loads)
    assert (figures["saturation"], figures["knee"]) == (None, None)
    line = f"Highest rate that keeps p95 <= 400 ms: {slo['rate']:g} requests per second (RTFx {slo['rtfx']:.1f};"
    assert line in done.stdout and "keeps p95 <= 400 ms" in done.stdout
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["slo_kept"] for row in rows] == ["yes" if trial["kept"] else "no" for trial in slo["trials"]]
    texts = [row for row in answers(tmp_path / "rows.jsonl") if row["error"] is None]  # A full queue refuses requests.
    assert len(texts) == sum(load["answered"] for load in loads.values())


def test_bench_says_that_no_rate_keeps_an_objective(triton: Any, run_command: Any) -> None:
    server = ("--url", triton.url, "--metrics-url", triton.metrics)
    done = run_command("bench", *server, "--slo", "p50=1ms", "--duration", 0.5, "--json", "-")
    figures = json.loads(done.stdout)
    (error,) = figures["notes"]
    assert done.returncode == 2 and done.stderr.startswith(f"error: {error}\n")
    assert error.startswith("p50 is ") and error.endswith(" ms with one request at a time: no rate keeps p50 <= 1 ms")
    assert figures["slo"]["rate"] is None and len(figures["slo"]["trials"]) == 1
