"""What requests are sent, and when: a closed loop of so many in flight, or an open loop of so many a second."""

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
    """So many requests in flight, the next one sent as one comes back."""

    concurrency: int

    @property
    def name(self) -> str:
        return f"{self.concurrency} in flight"

    def part(self, number: int, parts: int) -> int:
        """How many of them one of several senders keeps in flight."""
        return self.concurrency // parts + (number < self.concurrency % parts)


@dataclass(frozen=True)
class OpenLoop:
    """Requests at random moments, `rate` a second on average whatever the server does: a Poisson process."""

    rate: float

    @property
    def name(self) -> str:
        return f"{self.rate:g} a second"


Load: TypeAlias = ClosedLoop | OpenLoop


@dataclass(frozen=True)
class Request:
    """One request of a run. `due`: seconds after the start at which an open loop sends it."""

    number: int
    recording: int
    due: float


@dataclass(frozen=True)
class Plan:
    """All requests of one run; the same ones, at the same moments, for the same seed.

    Recordings are numbered; each pass over them has every one once. A run ends after so many `requests` or so many
    `seconds`, whichever comes first; one of them is given.
    """

    load: Load
    recordings: tuple[int, ...]
    """In the order of one pass."""
    shuffled: bool
    seed: int
    requests: int | None = None
    seconds: float | None = None
    answered: frozenset[int] = frozenset()
    """Numbers of requests that an earlier session has the answers of."""

    @property
    def remaining(self) -> int | None:
        """Requests to be sent; None where only time ends the run."""
        if self.requests is None:
            return None
        return self.requests - sum(number < self.requests for number in self.answered)

    def part(self, part: int, parts: int) -> Iterator[Request]:
        """Every `parts`th request, from `part` on. Those of all parts together are all requests."""
        moments = random.Random(f"{self.seed} moments")
        due = 0.0
        numbers = (number for number in count() if number not in self.answered)
        for place, number in enumerate(numbers):
            if self.requests is not None and number >= self.requests:
                return
            if isinstance(self.load, OpenLoop):
                due += moments.expovariate(self.load.rate)
                if self.seconds is not None and due > self.seconds:
                    return
            if place % parts == part:
                yield Request(number, self._recording(number), due)

    def _recording(self, number: int) -> int:
        passed, place = divmod(number, len(self.recordings))
        if self.shuffled:
            return _shuffled(self.recordings, f"{self.seed} {passed}")[place]
        return self.recordings[place]


@lru_cache(maxsize=4)
def _shuffled(recordings: tuple[int, ...], seed: str) -> list[int]:
    return random.Random(seed).sample(recordings, len(recordings))


def ordered(durations: list[float], order: Order) -> tuple[int, ...]:
    """The numbers of recordings of those durations in the order of one pass; `sorted` is the longest first."""
    numbers = range(len(durations))
    return tuple(sorted(numbers, key=lambda number: -durations[number]) if order == "sorted" else numbers)
