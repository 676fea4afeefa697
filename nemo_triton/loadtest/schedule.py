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
        """As it is printed."""
        return f"{self.concurrency} in flight"

    def part(self, number: int, *, of: int) -> int:
        """How many of them sender `number` of so many keeps in flight."""
        return self.concurrency // of + (number < self.concurrency % of)


@dataclass(frozen=True)
class OpenLoop:
    """Requests at random moments, `rate` a second whatever the server does: a Poisson process.

    Of that process those runs are drawn that have as many arrivals as they should, which are uniform in time; others
    would offer another rate than they are named by. The same seed gives every rate the same pattern, stretched.
    """

    rate: float

    @property
    def name(self) -> str:
        """As it is printed."""
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
    `seconds`, whichever comes first; one of them is given. An open loop has as many arrivals as its rate has in them.

    Attributes:
        load: What is put on the server.
        recordings: Numbers of the recordings, in the order of one pass.
        shuffled: Whether each pass has another order.
        seed: Of orders and arrivals.
        requests: How many are sent; None leaves it to `seconds`.
        seconds: How long they are sent; None leaves it to `requests`.
        answered: Numbers of requests that an earlier session has the answers of.
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
        """Requests to be sent; None where only time ends the run."""
        total = self._total
        return None if total is None else total - sum(number < total for number in self.answered)

    @property
    def _total(self) -> int | None:
        """Requests of the whole run, those answered before too; None where only time ends it."""
        if not isinstance(self.load, OpenLoop) or self.seconds is None:
            return self.requests
        arrivals = max(round(self.load.rate * self.seconds), 1)
        return arrivals if self.requests is None else min(arrivals, self.requests)

    def part(self, number: int = 0, *, of: int = 1) -> Iterator[Request]:
        """Part `number` of so many: every `of`th request. All parts together are all requests."""
        total, moments = self._total, self._moments()
        unanswered = (request for request in count() if request not in self.answered)
        start = None
        for place, request in enumerate(unanswered):
            if total is not None and request >= total:
                return
            due = 0.0
            if moments is not None:
                # A run that goes on does so where it was, not at the beginning of the pattern.
                start = start if start is not None else moments[request - 1] if request else 0.0
                due = moments[request] - start
            if place % of == number:
                yield Request(request, self._recording(request), due)

    def _moments(self) -> list[float] | None:
        """When an open loop's requests are due, those answered before too; None for a closed loop."""
        if not isinstance(self.load, OpenLoop) or self._total is None:
            return None
        generator, seconds = random.Random(f"{self.seed} moments"), self._total / self.load.rate
        return sorted(generator.uniform(0, seconds) for _ in range(self._total))

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
