"""Waiting for conditions instead of fixed times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

DEADLINE_SECONDS = 120.0
"""Generous, so that a busy machine fails no test; one that waits in vain says so after it."""
_INTERVAL_SECONDS = 0.05


def wait_until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Return once the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain"
        time.sleep(_INTERVAL_SECONDS)


async def wait_until_async(condition: Callable[[], bool | Awaitable[bool]], seconds: float = DEADLINE_SECONDS) -> None:
    """As wait_until, while other tasks go on."""
    deadline = time.monotonic() + seconds
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain"
        await asyncio.sleep(_INTERVAL_SECONDS)
