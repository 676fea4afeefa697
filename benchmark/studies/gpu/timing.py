"""Times the runs of something on several batches: new shapes, the same shape again, and shapes in turn.

The three may differ by a factor of 100 on a GPU: onnxruntime's CUDA provider plans each convolution again whenever the
shape is not that of the run before (docs/gpu.md).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

FEWEST = 3
"""Runs of each batch that a median needs at least."""

Feeds = TypeVar("Feeds")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """How long to measure.

    seconds: of one measurement, about
    slowest: seconds of one run; after a longer one the measurement ends
    stop_at: by time.monotonic; no run begins later
    """

    seconds: float
    slowest: float
    stop_at: float

    def no_time_left(self) -> bool:
        """Whether no further run may begin."""
        return time.monotonic() > self.stop_at


@dataclass
class Runs:
    """Seconds of the runs of one batch.

    audio: seconds of audio in the batch
    first: the first run, of another shape than the run before
    repeat: runs right after that, of the same shape
    alternating: runs of all batches in turn, so that the shape is another each time
    """

    audio: float
    first: float
    repeat: list[float] = field(default_factory=list)
    alternating: list[float] = field(default_factory=list)


@dataclass
class Timing:
    """Runs of each batch, in the order of the batches; those that `stopped` left out have none."""

    batches: list[Runs] = field(default_factory=list)
    stopped: str = ""
    """Why the measurement ended early; empty where it did not."""

    @property
    def too_slow(self) -> bool:
        """Whether a run took longer than allowed."""
        return bool(self.stopped) and self.stopped != NO_TIME

    def row(self) -> dict[str, Any]:
        """For JSON: milliseconds per batch, and seconds of audio per second (rtfx), by the kind of run."""
        return {
            "batches": len(self.batches),
            "stopped": self.stopped or None,
            "first": self._summary([[runs.first] for runs in self.batches]),
            "repeat": self._summary([runs.repeat for runs in self.batches]),
            "alternating": self._summary([runs.alternating for runs in self.batches]),
        }

    def line(self) -> str:
        """The figures for people."""
        row = self.row()
        parts = [
            f"{kind} {row[kind]['ms_per_batch']:.1f} ms (RTFx {row[kind]['rtfx']:.0f})"
            for kind in ("first", "repeat", "alternating")
            if row[kind]
        ]
        return ", ".join([*parts, *([f"stopped: {self.stopped}"] if self.stopped else [])])

    def _summary(self, seconds: Sequence[Sequence[float]]) -> dict[str, Any] | None:
        """Of the batches that have such runs; None where none has."""
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


NO_TIME = "no time left of --budget"


def time_runs(
    run: Callable[[Feeds], Result], feeds: Sequence[Feeds], audio: Sequence[float], limits: Limits
) -> tuple[Timing, list[Result]]:
    """Run each batch for the first time and again at once, then all batches in turn.

    Args:
        run: runs one batch, and returns when it is done
        feeds: what it takes, of each batch
        audio: seconds of audio in each batch
        limits: a run above `slowest` ends the measurement, after one more of the same shape if it was a first one

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
        share = time.perf_counter() + limits.seconds / 2 / len(feeds)
        while not limits.no_time_left() and (len(runs.repeat) < FEWEST or time.perf_counter() < share):
            runs.repeat.append(_timed(run, batch)[0])
            if max(runs.first, runs.repeat[-1]) > limits.slowest:
                break
        slowest = max([runs.first, *runs.repeat])
        if slowest > limits.slowest:
            timing.stopped = _too_slow(slowest, limits)
            return timing, results
        if len(runs.repeat) < FEWEST:
            timing.stopped = NO_TIME
            return timing, results
    _alternate(run, feeds, timing, limits)
    return timing, results


def _alternate(run: Callable[[Feeds], Any], feeds: Sequence[Feeds], timing: Timing, limits: Limits) -> None:
    if len(timing.batches) < 2:
        return
    share = time.perf_counter() + limits.seconds / 2
    while len(timing.batches[-1].alternating) < FEWEST or time.perf_counter() < share:
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
