"""Wait for conditions instead of fixed times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

DEADLINE_SECONDS = 120.0
"""Long, so that no test fails because the machine is busy."""
_INTERVAL_SECONDS = 0.05


def wait_until(
    condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS, *, interval: float = _INTERVAL_SECONDS
) -> None:
    """Return once the condition holds, and fail after `seconds`; the condition is checked every `interval` seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds:g} s"
        time.sleep(interval)


async def wait_until_async(condition: Callable[[], bool | Awaitable[bool]], seconds: float = DEADLINE_SECONDS) -> None:
    """Like wait_until, while other tasks run."""
    deadline = time.monotonic() + seconds
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds:g} s"
        await asyncio.sleep(_INTERVAL_SECONDS)
