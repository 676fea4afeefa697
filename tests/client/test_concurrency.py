"""map_in_order keeps the order and the concurrency limit."""

from __future__ import annotations

import asyncio
import random

import pytest

from nemo_triton.concurrency import map_in_order

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_results_keep_the_order_and_the_limit_holds(limit: int) -> None:
    delays = random.Random(0)
    running = peak = 0

    async def work(item: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(delays.random() / 100)
        running -= 1
        return item * item

    assert [result async for result in map_in_order(work, range(20), limit)] == [item * item for item in range(20)]
    assert peak == min(limit, 20)


async def test_no_items() -> None:
    assert [result async for result in map_in_order(asyncio.sleep, [], 4)] == []


async def test_an_early_end_cancels_running_work() -> None:
    cancelled = []

    async def work(item: int) -> int:
        try:
            await asyncio.sleep(0 if item == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    results = map_in_order(work, range(4), 4)
    assert await anext(results) == 0
    await results.aclose()
    await asyncio.sleep(0)
    assert cancelled == [1, 2, 3]
