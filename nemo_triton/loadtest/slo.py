"""Search for the highest request rate that keeps a latency objective: `--slo p95=500ms`.

The search starts with closed loops of rising concurrency. Their throughput is an estimate of the server's capacity.
Then it bisects on the rate of open loops, starting below that capacity.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from nemo_triton.loadtest.measure import LoadRun, failures
from nemo_triton.loadtest.recording import PERCENTILES, Response
from nemo_triton.loadtest.schedule import ClosedLoop, Load, OpenLoop

PRECISION = 1.05
"""The search ends when the lowest rate that misses the objective is at most this many times the result."""
EXAMPLE = "p95=500ms"

_CONCURRENCIES = (1, 4, 16, 64, 256)
_MIN_GAIN = 1.1
"""A concurrency that raises throughput by less than this factor ends the estimate of capacity."""
_FIRST_RATE = 0.8
"""The first open loop's rate as a fraction of the estimated capacity."""
_RAISE = 1.25
_MAX_OPEN_LOOPS = 16
_MIN_REQUESTS = 10
"""A trial of fewer requests says nothing about a percentile."""
_SHORTEST_SECONDS, _LONGEST_SECONDS = 10.0, 60.0
_REQUESTS_BEYOND = 5
"""A trial lasts until this number of requests is expected beyond the percentile, within the bounds above."""
_GROWTH = 2.0
"""The backlog grows if latency rises from each third of a trial to the next, by this factor in total. The queue must
    grow too, by _GROWTH_REQUESTS."""
_GROWTH_REQUESTS = 3.0
"""Growth of the queue from the first third of a trial to the last, in requests, by Little's law."""


@dataclass(frozen=True)
class Objective:
    """A limit for one percentile of latency.

    Attributes:
        percentile: 50, 90, 95 or 99.
        limit_ms: Highest latency in milliseconds.
    """

    percentile: int
    limit_ms: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read an objective such as "p95=500ms" or "p50=1.5s".

        Raises:
            ValueError: The text is not an objective.
        """
        match = re.fullmatch(r"p(\d+) *= *(\d+(?:\.\d+)?) *(ms|s)", text.strip(), re.ASCII)
        if not match or int(match[1]) not in PERCENTILES or not float(match[2]):
            known = ", ".join(f"p{rank}" for rank in PERCENTILES)
            raise ValueError(f"{text!r} is not an objective; write it as {EXAMPLE} (one of {known}; unit ms or s)")
        return cls(int(match[1]), float(match[2]) * (1000 if match[3] == "s" else 1))

    @property
    def key(self) -> str:
        """Name of the percentile, as in results: p95."""
        return f"p{self.percentile}"

    @property
    def name(self) -> str:
        """The objective for people: p95 <= 500 ms."""
        return f"{self.key} <= {self.limit_ms:g} ms"

    def trial_seconds(self, load: Load) -> float:
        """Default length of a trial: long enough for the percentile, from 10 to 60 seconds."""
        if isinstance(load, ClosedLoop):
            return _SHORTEST_SECONDS
        requests = _REQUESTS_BEYOND / (1 - self.percentile / 100)
        return min(max(requests / load.rate, _SHORTEST_SECONDS), _LONGEST_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One load of a search.

    Attributes:
        load: The closed or open loop.
        requests: Number of responses.
        requests_per_second: Throughput.
        miss: Reason why the load misses the objective; empty if it keeps it.
    """

    load: Load
    requests: int
    requests_per_second: float
    miss: str

    @property
    def kept(self) -> bool:
        """Whether the load keeps the objective."""
        return not self.miss


@dataclass
class Search:
    """The trials of a search so far, and its result.

    Attributes:
        objective: The limit to keep.
        trials: Trials in the order of time.
        finished: Whether the search came to a result.
    """

    objective: Objective
    trials: list[Trial] = field(default_factory=list)
    finished: bool = False

    @property
    def best(self) -> Trial | None:
        """The open loop with the highest rate that keeps the objective."""
        kept = [trial for trial in self._open_loops() if trial.kept and _rate(trial) < self._lowest_missed()]
        return max(kept, key=_rate, default=None)

    @property
    def missed_rate(self) -> float | None:
        """Lowest rate that misses the objective."""
        missed = self._lowest_missed()
        return missed if missed < float("inf") else None

    @property
    def failure(self) -> str | None:
        """One line if no rate keeps the objective."""
        if not self.finished or self.best:
            return None
        lowest = min(self._open_loops(), key=_rate, default=self.trials[0])
        is_open = isinstance(lowest.load, OpenLoop)
        where = f"at {_rate(lowest):g} requests per second" if is_open else "with one request at a time"
        return f"{lowest.miss} {where}: no rate keeps {self.objective.name}"

    async def run(self, run_trial: Callable[[Load], Awaitable[Trial]]) -> None:
        """Run trials until the result is known within about 5 %.

        Args:
            run_trial: Function that puts a load on the server and judges it.
        """
        capacity = await self._estimate_capacity(run_trial)
        if capacity:
            await self._bisect(run_trial, capacity)
        self.finished = True

    async def _estimate_capacity(self, run_trial: Callable[[Load], Awaitable[Trial]]) -> float:
        """Requests per second of closed loops; 0 if even a single request misses the objective."""
        capacity = 0.0
        for concurrency in _CONCURRENCIES:
            trial = await self._try(ClosedLoop(concurrency), run_trial)
            if concurrency == 1 and not trial.kept:
                return 0.0
            rises = trial.requests_per_second > _MIN_GAIN * capacity
            capacity = max(capacity, trial.requests_per_second)
            if not trial.kept or not rises:
                break
        return capacity

    async def _bisect(self, run_trial: Callable[[Load], Awaitable[Trial]], capacity: float) -> None:
        kept, missed = 0.0, float("inf")
        rate = _rounded(_FIRST_RATE * capacity)
        for _ in range(_MAX_OPEN_LOOPS):
            trial = await self._try(OpenLoop(rate), run_trial)
            if trial.kept:
                kept = rate
            else:
                missed = rate
            if missed <= PRECISION * kept or (not trial.kept and not kept and trial.requests < _MIN_REQUESTS):
                return
            rate = _rounded(_RAISE * kept if missed == float("inf") else (kept + missed) / 2)
            if rate in (kept, missed):
                return

    async def _try(self, load: Load, run_trial: Callable[[Load], Awaitable[Trial]]) -> Trial:
        trial = await run_trial(load)
        self.trials.append(trial)
        return trial

    def _open_loops(self) -> list[Trial]:
        return [trial for trial in self.trials if isinstance(trial.load, OpenLoop)]

    def _lowest_missed(self) -> float:
        return min((_rate(trial) for trial in self._open_loops() if not trial.kept), default=float("inf"))


def judge(run: LoadRun, objective: Objective) -> Trial:
    """Decide whether a load kept the objective.

    A load with failed or refused requests misses it. So does an open loop whose backlog of requests grows.
    """
    answered = [response for response in run.responses if response.error is None]
    return Trial(
        load=run.load,
        requests=len(run.responses),
        requests_per_second=len(answered) / run.wall_seconds if run.wall_seconds else 0.0,
        miss=_miss(run, answered, objective),
    )


def _miss(run: LoadRun, answered: list[Response], objective: Objective) -> str:
    failed = len(failures(run.responses))
    refused = sum(response.refused for response in run.responses)
    if refused:
        return f"{refused} of {len(run.responses)} requests refused"
    if failed or not answered:
        return f"{failed} of {len(run.responses)} requests failed"
    latency_ms = 1000 * float(np.percentile([response.latency for response in answered], objective.percentile))
    if latency_ms > objective.limit_ms:
        return f"{objective.key} is {latency_ms:.0f} ms"
    if isinstance(run.load, OpenLoop) and _backlog_grows(answered, run.load.rate):
        return "the backlog grows"
    return ""


def _backlog_grows(answered: list[Response], rate: float) -> bool:
    latencies = [response.latency for response in sorted(answered, key=lambda response: response.due)]
    if len(latencies) < 3 * _MIN_REQUESTS:
        return False
    first, middle, last = (float(np.mean(third)) for third in np.array_split(latencies, 3))
    return first < middle < last and last > _GROWTH * first and (last - first) * rate > _GROWTH_REQUESTS


def _rate(trial: Trial) -> float:
    return trial.load.rate if isinstance(trial.load, OpenLoop) else 0.0


def _rounded(rate: float) -> float:
    """Three significant digits: rates are printed, and a fourth digit would mean nothing."""
    return float(f"{rate:.3g}")
