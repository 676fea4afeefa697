"""Triton's statistics of each stage of a recognizer between two points in time: batch sizes and durations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import reduce
from typing import Any, TypeAlias

from nemo_triton.calls import Calls
from nemo_triton.contract import FLOAT_AUDIO

_NANOSECONDS_PER_MS = 1e6


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Triton's counters of one model since it was loaded. Durations are in nanoseconds, summed over requests.

    Attributes:
        inferences: Number of inferences; a batch of 4 counts 4.
        executions: Number of batches that were executed.
        requests: Number of successful requests.
        request_ns: From the arrival of a request to its response.
        queue_ns: Time in the queue.
        input_ns: Time to gather the inputs of a batch.
        infer_ns: Time to compute.
        output_ns: Time to split the outputs of a batch.
        batches: Number of executions by batch size.
        executing_ns: Time to compute, each execution counted once whatever its batch size.
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
"""Counters of each stage, by model name, in the order of the stages."""


@dataclass(frozen=True, kw_only=True)
class StepStatistics:
    """Statistics of one stage during a load. The means are None if it had no requests.

    Durations in milliseconds are means over requests; each request counts the whole time of its batch.

    Attributes:
        model: The stage's model name.
        inferences: Number of inferences; a batch of 4 counts 4.
        executions: Number of batches that were executed.
        mean_batch_size: Inferences per execution.
        request_ms: Whole time in the stage: the four durations below and the gaps between them.
        queue_ms: Time in the queue.
        input_ms: Time to gather the inputs of a batch.
        infer_ms: Time to compute.
        output_ms: Time to split the outputs of a batch.
        batch_sizes: Number of executions by batch size.
        executing_ms: Time to compute of all executions together, not a mean.
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
    """Read the counters of the named models, summed over versions."""
    counters = {}
    for model in models:
        answer = yield "get_inference_statistics", {"model_name": model}
        counters[model] = sum(map(_read, answer.model_stats), Counters())
    return counters


def counted_between(before: Snapshot, after: Snapshot) -> Snapshot:
    """Subtract two snapshots of the same models; requests of other clients are included."""
    return {model: after[model] - before[model] for model in before}


def add(first: Snapshot, second: Snapshot) -> Snapshot:
    """Add two snapshots."""
    return {model: first.get(model, Counters()) + second.get(model, Counters()) for model in {**first, **second}}


def total(counted: Iterable[Snapshot]) -> Snapshot:
    """Add the snapshots of several servers or sessions."""
    nothing: Snapshot = {}
    return reduce(add, counted, nothing)


def summary(counted: Snapshot) -> list[StepStatistics]:
    """Compute the statistics of each model, in the order given.

    Without requests, a stage for float samples is left out, and so is its counterpart for 16-bit samples if the stage
    for float samples had requests.
    """

    def is_idle(model: str) -> bool:
        base = model.removesuffix(FLOAT_AUDIO.suffix)
        if counted[model].inferences:
            return False
        if base != model:
            return base in counted
        return counted.get(base + FLOAT_AUDIO.suffix, Counters()).inferences > 0

    return [_summary(model, counters) for model, counters in counted.items() if not is_idle(model)]


def difference(before: Snapshot, after: Snapshot) -> list[StepStatistics]:
    """Compute the statistics between two snapshots of the same models."""
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
    """Read one version's counters from Triton's ModelStatistics message."""
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
