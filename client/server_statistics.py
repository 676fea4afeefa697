"""How the server batched, by its own counters: what each step of a recognizer did between two moments.

Not named statistics.py: `python client/bench.py` puts this folder first on the module path, before the standard
library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, TypeAlias

from client.protocol import Calls

_NANOSECONDS_PER_MS = 1e6


@dataclass(frozen=True)
class Counters:
    """One model's counters since the server loaded it. Times are in nanoseconds, summed over requests."""

    inferences: int = 0
    executions: int = 0
    requests: int = 0
    queue_ns: int = 0
    compute_ns: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Counters) -> Counters:
        return Counters(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


Snapshot: TypeAlias = Mapping[str, Counters]
"""Counters of each step, by model name, in the order of the steps."""


@dataclass(frozen=True)
class StepStatistics:
    """What one step did during a run. The three means are None where it did nothing."""

    model: str
    inferences: int
    executions: int
    mean_batch_size: float | None
    queue_ms: float | None
    """Mean wait of a request in the step's queue."""
    compute_ms: float | None
    """Mean time a request was being computed, its batch's input and output handling included."""


def snapshot(steps: Sequence[str]) -> Calls[Snapshot]:
    """Ask the server for the counters of the named models, summed over versions."""
    counters = {}
    for step in steps:
        answer = yield "get_inference_statistics", {"model_name": step}
        counters[step] = sum(map(_read, answer.model_stats), Counters())
    return counters


def difference(before: Snapshot, after: Snapshot) -> list[StepStatistics]:
    """What happened between two snapshots of the same steps; other clients' requests count as well."""
    return [_summary(step, after[step] - before[step]) for step in before]


def _summary(step: str, spent: Counters) -> StepStatistics:
    return StepStatistics(
        model=step,
        inferences=spent.inferences,
        executions=spent.executions,
        mean_batch_size=spent.inferences / spent.executions if spent.executions else None,
        queue_ms=spent.queue_ns / spent.requests / _NANOSECONDS_PER_MS if spent.requests else None,
        compute_ms=spent.compute_ns / spent.requests / _NANOSECONDS_PER_MS if spent.requests else None,
    )


def _read(stats: Any) -> Counters:
    """One version's counters from Triton's ModelStatistics message."""
    times = stats.inference_stats
    return Counters(
        inferences=stats.inference_count,
        executions=stats.execution_count,
        requests=times.success.count,
        queue_ns=times.queue.ns,
        compute_ns=times.compute_input.ns + times.compute_infer.ns + times.compute_output.ns,
    )
