"""Asynchronous work with limited concurrency."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WAITING_RESULTS = 1000
"""Results that wait for an earlier item. They must be small, such as texts."""


async def map_in_order(
    work: Callable[[Item], Awaitable[Result]],
    items: Iterable[Item],
    limit: int,
    max_waiting: int = MAX_WAITING_RESULTS,
    on_interrupt: Callable[[Result], object] = lambda result: None,
) -> AsyncGenerator[Result, None]:
    """Yield `work(item)` for each item, in the order of the items.

    `limit` tasks keep running while a slow item delays the results of later ones, until `max_waiting` results wait.

    An exception in `work` starts no more tasks. It is raised in its place in the order, and cancels the running tasks.

    Args:
        work: The coroutine function to run.
        items: Read only as fast as tasks start.
        limit: Tasks that may run concurrently.
        max_waiting: Results that may wait to be yielded.
        on_interrupt: Called with each result that waits, in the order of the items, if the reader of the results is
            cancelled, as an interrupt does.
    """
    tasks = _Tasks(work, items, limit, max_waiting)
    try:
        tasks.start()
        while tasks.pending:
            result = await tasks.pending[0]
            tasks.pending.popleft()
            tasks.start()
            yield result
    except asyncio.CancelledError:
        for result in tasks.waiting_results():
            on_interrupt(result)
        raise
    finally:
        tasks.cancel()


class _Tasks(Generic[Item, Result]):
    """Tasks for the items, of which at most `limit` run. The end of a task starts the next one.

    Attributes:
        pending: Tasks whose results have not been yielded, in the order of the items.
    """

    def __init__(
        self, work: Callable[[Item], Awaitable[Result]], items: Iterable[Item], limit: int, max_waiting: int
    ) -> None:
        self.pending: deque[asyncio.Future[Result]] = deque()
        self._work = work
        self._items = iter(items)
        self._limit = limit
        self._max_pending = limit + max_waiting
        self._running = 0
        self._ended = False

    def start(self) -> None:
        """Start tasks up to the limits."""
        while not self._ended and self._running < self._limit and len(self.pending) < self._max_pending:
            task: asyncio.Future[Result]
            try:
                task = asyncio.ensure_future(self._work(next(self._items)))
            except StopIteration:
                self._ended = True
                return
            except Exception as error:
                # The caller of a task's callback could not handle it, so that it is raised with the results.
                task = asyncio.get_running_loop().create_future()
                task.set_exception(error)
            self._running += 1
            self.pending.append(task)
            task.add_done_callback(self._end_task)

    def _end_task(self, task: asyncio.Future[Result]) -> None:
        self._running -= 1
        if task.cancelled() or task.exception() is not None:
            self._ended = True
        self.start()

    def waiting_results(self) -> list[Result]:
        """Results that wait to be yielded."""
        return [task.result() for task in self.pending if task.done() and not task.cancelled() and not task.exception()]

    def cancel(self) -> None:
        """Start no more tasks, and cancel those that run."""
        self._ended = True
        for task in self.pending:
            task.cancel()
