"""Asynchronous work with limited concurrency."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def map_in_order(
    work: Callable[[Item], Awaitable[Result]], items: Iterable[Item], limit: int
) -> AsyncGenerator[Result, None]:
    """Yield `work(item)` for each item, in the order of the items.

    An exception in `work` ends the iteration and cancels the running tasks.

    Args:
        work: The coroutine function to run.
        items: Read only as fast as results are consumed.
        limit: Tasks that may be running, or finished but not yet yielded.
    """
    pending: deque[asyncio.Future[Result]] = deque()
    try:
        for item in items:
            pending.append(asyncio.ensure_future(work(item)))
            if len(pending) == limit:
                yield await pending.popleft()
        while pending:
            yield await pending.popleft()
    finally:
        for future in pending:
            future.cancel()
