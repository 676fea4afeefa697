"""Requests that wait until a server has room, the earliest deadline first."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

Server = TypeVar("Server", bound=Hashable)


@dataclass(eq=False)
class Waiting:
    """A request that waits.

    Attributes:
        deadline: Deadline of the request on the monotonic clock, in seconds.
        excluded: Servers that don't get it.
        turn: Done once it may be the request's turn.
    """

    deadline: float
    excluded: Collection[Hashable] = ()
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

    def position(self, waiting: Waiting | None, servers: Collection[Hashable]) -> int:
        """Number of earlier requests that may go to one of the servers; None is a new request, behind all."""
        end = len(self._line) if waiting is None else self._line.index(waiting)
        return sum(_can_use(earlier, servers) for earlier in self._line[:end])

    def wake(self, room: Mapping[Server, float]) -> None:
        """Wake the first requests, as many as there is room for at servers that they can use.

        Args:
            room: Number of further requests by server.
        """
        servers, total = [server for server, count in room.items() if count], sum(room.values())
        for waiting in self._line:
            if total < 1:
                break
            if _can_use(waiting, servers):
                total -= 1
                _wake(waiting)

    def wake_first(self) -> None:
        """Wake the first request."""
        for waiting in self._line[:1]:
            _wake(waiting)

    def wake_all(self) -> None:
        """Wake all requests."""
        for waiting in self._line:
            _wake(waiting)


def _can_use(waiting: Waiting, servers: Collection[Hashable]) -> bool:
    return any(server not in waiting.excluded for server in servers)


def _wake(waiting: Waiting) -> None:
    if not waiting.turn.done():
        waiting.turn.set_result(None)
