"""Which requests are sent and when: closed loops (by concurrency) and open loops (by requests per second)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Literal, TypeAlias

Order = Literal["shuffled", "sorted", "given"]


@dataclass(frozen=True)
class ClosedLoop:
    """A fixed number of concurrent requests: a new one is sent when one ends."""

    concurrency: int

    @property
    def name(self) -> str:
        """Name in tables and files."""
        return f"{self.concurrency} in flight"

    def part(self, number: int, *, of: int) -> int:
        """Concurrency of sending process `number`, of `of` processes."""
        return self.concurrency // of + (number < self.concurrency % of)


@dataclass(frozen=True)
class OpenLoop:
    """Requests at random times (a Poisson process), `rate` per second, however slow the server is.

    The number of arrivals is fixed and their times are uniform: a Poisson process given its count. So the offered
    rate is exactly `rate`. With one seed, all rates have the same pattern, stretched in time.

    Attributes:
        rate: Requests per second.
        waits: Whether requests wait for room if queues are full, instead of counting as refused.
    """

    rate: float
    waits: bool = False

    @property
    def name(self) -> str:
        """Name in tables and files."""
        return f"{self.rate:g} per second{', waiting for room' if self.waits else ''}"


Load: TypeAlias = ClosedLoop | OpenLoop


@dataclass(frozen=True)
class Request:
    """One request of a plan.

    Attributes:
        number: Number of the request, from 0.
        recording: Index of the recording to send.
        due: Seconds after the start at which an open loop sends it; 0 in a closed loop.
    """

    number: int
    recording: int
    due: float


@dataclass(frozen=True)
class Plan:
    """All requests of one load: the same requests at the same times for the same seed.

    Each pass over the recordings sends every recording once. The load ends after `requests` or `seconds`, whichever
    comes first; at least one of them is set.

    Attributes:
        load: The closed or open loop.
        recordings: Indices of the recordings, in the order of one pass.
        shuffled: Whether each pass has a new random order.
        seed: Seed of the orders and the arrival times.
        requests: Number of requests; None means no limit.
        seconds: Seconds of sending; None means no limit.
        answered: Numbers of the requests that an earlier session has responses to.
    """

    load: Load
    recordings: tuple[int, ...]
    shuffled: bool
    seed: int
    requests: int | None = None
    seconds: float | None = None
    answered: frozenset[int] = frozenset()

    @property
    def remaining(self) -> int | None:
        """Number of requests still to send; None if only time ends the load."""
        total = self._total
        return None if total is None else total - sum(number < total for number in self.answered)

    @property
    def _total(self) -> int | None:
        """Number of requests, those of earlier sessions included; None if only time ends the load."""
        if not isinstance(self.load, OpenLoop) or self.seconds is None:
            return self.requests
        arrivals = max(round(self.load.rate * self.seconds), 1)
        return arrivals if self.requests is None else min(arrivals, self.requests)

    def part(self, number: int = 0, *, of: int = 1) -> Iterator[Request]:
        """Requests of sending process `number`: every `of`th request of the plan."""
        total, moments = self._total, self._moments()
        unanswered = (request for request in count() if request not in self.answered)
        start = None
        for index, request in enumerate(unanswered):
            if total is not None and request >= total:
                return
            due = 0.0
            if moments is not None:
                # A resumed load continues in the pattern where it stopped.
                start = start if start is not None else moments[request - 1] if request else 0.0
                due = moments[request] - start
            if index % of == number:
                yield Request(request, self._recording(request), due)

    def _moments(self) -> list[float] | None:
        """Due times of all requests of an open loop, in seconds; None for a closed loop."""
        if not isinstance(self.load, OpenLoop) or self._total is None:
            return None
        generator, seconds = random.Random(f"{self.seed} moments"), self._total / self.load.rate
        return sorted(generator.uniform(0, seconds) for _ in range(self._total))

    def _recording(self, number: int) -> int:
        passes, index = divmod(number, len(self.recordings))
        if self.shuffled:
            return _shuffled(self.recordings, f"{self.seed} {passes}")[index]
        return self.recordings[index]


@lru_cache(maxsize=4)
def _shuffled(recordings: tuple[int, ...], seed: str) -> list[int]:
    return random.Random(seed).sample(recordings, len(recordings))


def ordered(durations: list[float], order: Order) -> tuple[int, ...]:
    """Order the recordings for one pass.

    Args:
        durations: Seconds of each recording.
        order: "sorted" puts the longest first; "shuffled" and "given" keep the manifest's order here.

    Returns:
        Indices into `durations`.
    """
    numbers = range(len(durations))
    return tuple(sorted(numbers, key=lambda number: -durations[number]) if order == "sorted" else numbers)
