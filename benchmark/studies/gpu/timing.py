"""Time runs on several batches: with a new shape, with the same shape again, and with alternating shapes.

The three can differ by a factor of 100 on a GPU: onnxruntime's CUDA provider plans each convolution again when the
shape changes (docs/gpu.md).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

MIN_RUNS = 3
"""Smallest number of runs of each batch for a median."""

Feeds = TypeVar("Feeds")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """Time limits of measurements.

    Attributes:
        seconds: Approximate length of one measurement.
        slowest: Seconds of the longest run; a longer one ends its measurement.
        stop_at: No run starts after this time, by time.monotonic.
    """

    seconds: float
    slowest: float
    stop_at: float

    def no_time_left(self) -> bool:
        """Whether no further run may start."""
        return time.monotonic() > self.stop_at


@dataclass
class Runs:
    """Times of one batch, in seconds.

    Attributes:
        audio: Seconds of audio in the batch.
        first: The first run, which has a new shape.
        repeat: Runs right after that, with the same shape.
        alternating: Runs in turn with the other batches, so that the shape changes each time.
    """

    audio: float
    first: float
    repeat: list[float] = field(default_factory=list)
    alternating: list[float] = field(default_factory=list)


@dataclass
class Timing:
    """A measurement.

    Attributes:
        batches: Runs by batch, in the order of the batches; shorter if the measurement ended early.
        stopped: Reason why the measurement ended early; empty if it didn't.
    """

    batches: list[Runs] = field(default_factory=list)
    stopped: str = ""

    @property
    def too_slow(self) -> bool:
        """Whether a run took longer than allowed."""
        return bool(self.stopped) and self.stopped != NO_TIME

    def row(self) -> dict[str, Any]:
        """Milliseconds per batch and seconds of audio per second (rtfx), by kind of run. For JSON."""
        return {
            "batches": len(self.batches),
            "stopped": self.stopped or None,
            "first": self._summary([[runs.first] for runs in self.batches]),
            "repeat": self._summary([runs.repeat for runs in self.batches]),
            "alternating": self._summary([runs.alternating for runs in self.batches]),
        }

    def line(self) -> str:
        """The results as one line."""
        row = self.row()
        parts = [
            f"{kind} {row[kind]['ms_per_batch']:.1f} ms (RTFx {row[kind]['rtfx']:.0f})"
            for kind in ("first", "repeat", "alternating")
            if row[kind]
        ]
        return ", ".join([*parts, *([f"stopped: {self.stopped}"] if self.stopped else [])])

    def _summary(self, seconds: Sequence[Sequence[float]]) -> dict[str, Any] | None:
        """Summarise one kind of run over the batches that have it; None if no batch has."""
        measured = [(runs.audio, times) for runs, times in zip(self.batches, seconds, strict=True) if times]
        if not measured:
            return None
        medians = [statistics.median(times) for _, times in measured]
        return {
            "runs": sum(len(times) for _, times in measured),
            "ms_per_batch": 1000 * statistics.mean(medians),
            "ms_by_batch": [_milliseconds(median) for median in medians],
            "fastest_ms_by_batch": [_milliseconds(min(times)) for _, times in measured],
            "slowest_ms_by_batch": [_milliseconds(max(times)) for _, times in measured],
            "rtfx": sum(audio for audio, _ in measured) / sum(medians),
        }


NO_TIME = "no time left; raise --budget"


def time_runs(
    run: Callable[[Feeds], Result], feeds: Sequence[Feeds], audio: Sequence[float], limits: Limits
) -> tuple[Timing, list[Result]]:
    """Run each batch for the first time and repeatedly, then all batches in turn.

    Args:
        run: Function that runs one batch, and returns when the batch is done.
        feeds: Argument of `run` for each batch.
        audio: Seconds of audio in each batch.
        limits: A run longer than `slowest` ends the measurement; after a first run, one more of the same shape follows.

    Returns:
        The timing, and the result of each batch that was run.
    """
    timing = Timing()
    results: list[Result] = []
    for batch, length in zip(feeds, audio, strict=False):
        if limits.no_time_left():
            timing.stopped = NO_TIME
            return timing, results
        seconds, result = _timed(run, batch)
        results.append(result)
        runs = Runs(length, seconds)
        timing.batches.append(runs)
        end = time.perf_counter() + limits.seconds / 2 / len(feeds)
        while not limits.no_time_left() and (len(runs.repeat) < MIN_RUNS or time.perf_counter() < end):
            runs.repeat.append(_timed(run, batch)[0])
            if max(runs.first, runs.repeat[-1]) > limits.slowest:
                break
        slowest = max([runs.first, *runs.repeat])
        if slowest > limits.slowest:
            timing.stopped = _too_slow(slowest, limits)
            return timing, results
        if len(runs.repeat) < MIN_RUNS:
            timing.stopped = NO_TIME
            return timing, results
    _alternate(run, feeds, timing, limits)
    return timing, results


def _alternate(run: Callable[[Feeds], Any], feeds: Sequence[Feeds], timing: Timing, limits: Limits) -> None:
    if len(timing.batches) < 2:
        return
    end = time.perf_counter() + limits.seconds / 2
    while len(timing.batches[-1].alternating) < MIN_RUNS or time.perf_counter() < end:
        for runs, batch in zip(timing.batches, feeds, strict=True):
            if limits.no_time_left():
                timing.stopped = NO_TIME
                return
            runs.alternating.append(_timed(run, batch)[0])
            if runs.alternating[-1] > limits.slowest:
                timing.stopped = _too_slow(runs.alternating[-1], limits)
                return


def _timed(run: Callable[[Feeds], Result], batch: Feeds) -> tuple[float, Result]:
    started = time.perf_counter()
    result = run(batch)
    return time.perf_counter() - started, result


def _too_slow(seconds: float, limits: Limits) -> str:
    return f"a run took {seconds:.2f} s, more than --slowest {limits.slowest:g}"


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
