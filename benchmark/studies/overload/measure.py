"""Measure one server at its capacity, far above it, and right afterwards."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.run_bench import Bench, run_bench
from nemo_triton.audio import Samples
from nemo_triton.recognizer import Recognizer

SINGLE_REQUESTS = 5
"""Requests one at a time, whose median is the normal latency."""


@dataclass(frozen=True, kw_only=True)
class Overload:
    """The loads of a study.

    Attributes:
        factor: Rate of the overload, in capacities.
        deadline: Deadline of each request under overload, in seconds.
        seconds: Duration of each load.
        concurrency: Concurrent requests that find the capacity.
    """

    factor: float
    deadline: float
    seconds: float
    concurrency: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One server under overload.

    Attributes:
        capacity: Requests per second of the closed loop, mean of one before and one after the overload.
        sent: Requests under overload.
        answered: Requests answered within their deadline.
        refused: Requests that a full queue refused, or that found no room before their deadline.
        lost: Requests without an answer within their deadline.
        useful: Requests answered in time per second, divided by the capacity.
        accepted_p95: 95th percentile of the latency of answered requests, in seconds; None without any.
        refusal_p95: 95th percentile of the time to a refusal, in seconds; None without any.
        normal: Median latency of a single request before the load, in seconds.
        afterwards: Latency of the first request after the load, in seconds.
    """

    capacity: float
    sent: int
    answered: int
    refused: int
    lost: int
    useful: float
    accepted_p95: float | None
    refusal_p95: float | None
    normal: float
    afterwards: float


def measure(bench: Bench, overload: Overload, options: Sequence[str], clip: Samples, folder: Path) -> Measured:
    """Measure one server.

    Args:
        bench: The server, its recognizer and the recordings.
        overload: The loads.
        options: Further options of bench.py for the overload.
        clip: Recording for single requests.
        folder: Folder for temporary files.

    Raises:
        ResultsError: bench.py wrote no results.
        RecognizerError: A single request failed.
    """
    figures = folder / "figures.json"
    duration = ("--duration", f"{overload.seconds:g}")
    with Recognizer(bench.model, bench.url) as recognizer:
        normal = statistics.median(_seconds(recognizer, clip) for _ in range(SINGLE_REQUESTS))

        def capacity_now() -> float:
            closed, _ = run_bench(bench, ["--concurrency", str(overload.concurrency), *duration], figures)
            (load,) = closed["loads"]
            return float(load["answered"] / load["wall_seconds"])

        before = capacity_now()
        rate = f"{overload.factor * before:.3f}"
        timeout = f"{overload.deadline:g}"
        open_loop, _ = run_bench(
            bench, ["--rate", rate, *duration, "--timeout", timeout, "--warmup", "0", *options], figures
        )
        afterwards = _seconds(recognizer, clip)
        # The machine's speed drifts, so the capacity is measured on both sides of the overload.
        capacity = statistics.mean([before, capacity_now()])
    (load,) = open_loop["loads"]
    return Measured(
        capacity=capacity,
        sent=load["answered"] + load["failed"] + load["refused"],
        answered=load["answered"],
        refused=load["refused"],
        lost=load["failed"],
        useful=load["answered"] / load["wall_seconds"] / capacity,
        accepted_p95=_p95(load["latency_ms"]),
        refusal_p95=_p95(load["refusal_ms"]),
        normal=normal,
        afterwards=afterwards,
    )


def _seconds(recognizer: Recognizer, clip: Samples) -> float:
    begun = time.monotonic()
    recognizer.transcribe(clip)
    return time.monotonic() - begun


def _p95(milliseconds: dict[str, Any] | None) -> float | None:
    return milliseconds["p95"] / 1000 if milliseconds else None
