"""How the server batched, by its own counters: what each step of a recognizer did between two moments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import reduce
from typing import Any, TypeAlias

from nemo_triton.calls import Calls

_NANOSECONDS_PER_MS = 1e6


@dataclass(frozen=True, kw_only=True)
class Counters:
    """One model's counters since the server loaded it. Times are in nanoseconds, summed over requests.

    Attributes:
        request_ns: From taking a request to having its answer.
        batches: Executions by the size of their batch.
        executing_ns: Of infer_ns, each execution counted once, whatever its batch.
    """

    inferences: int = 0
    executions: int = 0
    requests: int = 0
    request_ns: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    batches: Mapping[int, int] = field(default_factory=dict)
    executing_ns: int = 0

    def __add__(self, other: Counters) -> Counters:
        return self._combined(other, 1)

    def __sub__(self, other: Counters) -> Counters:
        return self._combined(other, -1)

    def _combined(self, other: Counters, sign: int) -> Counters:
        numbers = [name for name in (entry.name for entry in fields(self)) if name != "batches"]
        batches = Counter(self.batches)
        for size, count in other.batches.items():
            batches[size] += sign * count
        return Counters(
            **{name: getattr(self, name) + sign * getattr(other, name) for name in numbers},
            batches={size: batches[size] for size in sorted(batches) if batches[size]},
        )


Snapshot: TypeAlias = Mapping[str, Counters]
"""Counters of each step, by model name, in the order of the steps."""


@dataclass(frozen=True, kw_only=True)
class StepStatistics:
    """What one step did during a run. The means are None if it did nothing.

    Milliseconds are means over requests; a request has the times of the batch that it was in.

    Attributes:
        request_ms: All of its time in the step: the four that follow, and what lies between them.
        input_ms: Bringing the batch's inputs together.
        batch_sizes: Executions by the size of their batch.
        executing_ms: Of all executions together, not a mean.
    """

    model: str
    inferences: int
    executions: int
    mean_batch_size: float | None
    request_ms: float | None
    queue_ms: float | None
    input_ms: float | None
    infer_ms: float | None
    output_ms: float | None
    batch_sizes: Mapping[int, int]
    executing_ms: float = 0.0


def snapshot(models: Sequence[str]) -> Calls[Snapshot]:
    """Ask the server for the counters of the named models, summed over versions."""
    counters = {}
    for model in models:
        answer = yield "get_inference_statistics", {"model_name": model}
        counters[model] = sum(map(_read, answer.model_stats), Counters())
    return counters


def counted_between(before: Snapshot, after: Snapshot) -> Snapshot:
    """What was counted between two snapshots of the same models; other clients' requests count as well."""
    return {model: after[model] - before[model] for model in before}


def add(first: Snapshot, second: Snapshot) -> Snapshot:
    """The sum of what was counted at two times."""
    return {model: first.get(model, Counters()) + second.get(model, Counters()) for model in {**first, **second}}


def total(counted: Iterable[Snapshot]) -> Snapshot:
    """The sum of what several servers counted, or one at several times."""
    nothing: Snapshot = {}
    return reduce(add, counted, nothing)


def summary(counted: Snapshot) -> list[StepStatistics]:
    """The figures of each model, in the order given."""
    return [_summary(model, counters) for model, counters in counted.items()]


def difference(before: Snapshot, after: Snapshot) -> list[StepStatistics]:
    """The figures between two snapshots of the same models."""
    return summary(counted_between(before, after))


def _summary(model: str, counted: Counters) -> StepStatistics:
    def mean_ms(nanoseconds: int) -> float | None:
        return nanoseconds / counted.requests / _NANOSECONDS_PER_MS if counted.requests else None

    return StepStatistics(
        model=model,
        inferences=counted.inferences,
        executions=counted.executions,
        mean_batch_size=counted.inferences / counted.executions if counted.executions else None,
        request_ms=mean_ms(counted.request_ns),
        queue_ms=mean_ms(counted.queue_ns),
        input_ms=mean_ms(counted.input_ns),
        infer_ms=mean_ms(counted.infer_ns),
        output_ms=mean_ms(counted.output_ns),
        batch_sizes=counted.batches,
        executing_ms=counted.executing_ns / _NANOSECONDS_PER_MS,
    )


def _read(stats: Any) -> Counters:
    """One version's counters from Triton's ModelStatistics message."""
    times = stats.inference_stats
    return Counters(
        inferences=stats.inference_count,
        executions=stats.execution_count,
        requests=times.success.count,
        request_ns=times.success.ns,
        queue_ns=times.queue.ns,
        input_ns=times.compute_input.ns,
        infer_ns=times.compute_infer.ns,
        output_ns=times.compute_output.ns,
        batches={batch.batch_size: batch.compute_infer.count for batch in stats.batch_stats},
        executing_ns=sum(batch.compute_infer.ns for batch in stats.batch_stats),
    )
