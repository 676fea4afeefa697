"""How many requests a client keeps at one server, learnt from refusals by its full queue and from late answers."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

_DECREASE = 0.9
"""Factor of the limit after a refusal. A server with a full queue and a tenth of it less is as busy."""
_REMEMBERED_SECONDS = 10.0
"""How long a limit lasts after it was lowered, or kept a request waiting."""
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 0.1, 2.0
"""Limits of the random wait for a server that others fill; the first doubles with each refusal."""


@dataclass
class ConcurrencyLimit:
    """The most requests that a client sends to a server before one is answered; unlimited at first.

    Not safe for threads: the caller holds a lock. Times are seconds on the monotonic clock.

    Source: additive increase and multiplicative decrease, as in TCP (RFC 5681), and the concurrency limits of Envoy
    and Netflix, which learn from latency. Here a refusal says exactly how many requests fit.
    """

    _limit: float = field(default=math.inf, init=False)
    _lowered: float = field(default=-math.inf, init=False)
    _reached: float = field(default=-math.inf, init=False)
    _blocked_until: float = field(default=-math.inf, init=False)
    _refusals_of_one: int = field(default=0, init=False)

    def room(self, in_flight: int, now: float) -> float:
        """Number of further requests that may be sent, whole or infinite.

        Args:
            in_flight: Pending requests of this client.
            now: The time.
        """
        if now < self._blocked_until:
            return 0
        # A limit that keeps requests waiting only grows. Forgotten, it would send them all together.
        if now > max(self._lowered, self._reached) + _REMEMBERED_SECONDS:
            self._limit = math.inf
        room = self._limit - in_flight
        if room < 1:
            self._reached = now
            return 0
        return room if room == math.inf else math.floor(room)

    def blocked_seconds(self, now: float) -> float:
        """Seconds until the server may be tried again; infinite if an answer tells when."""
        return self._blocked_until - now if now < self._blocked_until else math.inf

    def note_late(self, *, sent: float, in_flight: int, now: float) -> None:
        """Lower the limit because a request was not answered in time.

        Args:
            sent: When the request was sent.
            in_flight: Pending requests of this client, this one included.
            now: The time.
        """
        # Of requests that are late together, the first lowers it; how many others are pending says nothing then.
        if sent >= self._lowered:
            self._limit = max(_DECREASE * min(self._limit, in_flight), 1)
            self._lowered = now

    def note_refusal(self, *, sent: float, in_flight: int, now: float) -> None:
        """Lower the limit because of a refusal, and wait if others fill the server.

        Args:
            sent: When the request was sent.
            in_flight: Pending requests of this client, without this one: those that fit.
            now: The time.
        """
        # All refusals of a burst together lower the limit by the factor once.
        fits = in_flight if sent < self._lowered else _DECREASE * in_flight
        self._limit = max(min(self._limit, fits), 1)
        self._lowered = now
        if in_flight:
            return
        # Others fill the queue, and no answer will tell when it has room. Full jitter: clients that were refused
        # together don't come back together.
        longest = min(_FIRST_BACKOFF_SECONDS * 2.0**self._refusals_of_one, _LONGEST_BACKOFF_SECONDS)
        self._blocked_until = now + random.uniform(0, longest)
        self._refusals_of_one += 1

    def note_answer(self) -> None:
        """Raise the limit, by one after as many answers as it has requests."""
        self._limit += 1 / self._limit
        self._refusals_of_one = 0
        self._blocked_until = -math.inf
