"""Requests that wait until a server has room, the earliest deadline first."""

from __future__ import annotations

from bisect import insort
from concurrent.futures import Future
from dataclasses import dataclass, field


@dataclass(eq=False)
class Waiting:
    """A request that waits.

    Attributes:
        deadline: Deadline of the request on the monotonic clock, in seconds.
        turn: Done once it may be the request's turn.
    """

    deadline: float
    turn: Future[None] = field(default_factory=Future)


@dataclass
class WaitingLine:
    """Not safe for threads: the caller holds a lock.

    A turn is only a hint: the woken request looks at its position again. So none is lost with a request that was
    cancelled meanwhile.
    """

    _line: list[Waiting] = field(default_factory=list, init=False)

    def join(self, waiting: Waiting) -> None:
        """Add a request, behind those of the same deadline."""
        insort(self._line, waiting, key=lambda each: each.deadline)

    def leave(self, waiting: Waiting) -> None:
        """Remove a request."""
        self._line.remove(waiting)

    def position(self, waiting: Waiting | None) -> int:
        """Number of requests before this one; None is a new request, behind all."""
        return len(self._line) if waiting is None else self._line.index(waiting)

    def wake(self, count: float) -> None:
        """Wake the first requests, as many as there is room for."""
        for waiting in self._line[: int(min(count, len(self._line)))]:
            if not waiting.turn.done():
                waiting.turn.set_result(None)
