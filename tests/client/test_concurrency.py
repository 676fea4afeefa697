"""map_in_order keeps the order and the bound."""

from __future__ import annotations

import asyncio
import random

import pytest

from nemo_triton.concurrency import map_in_order

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_results_keep_the_order_and_the_bound_holds(limit: int) -> None:
    delays = random.Random(0)
    running = most = 0

    async def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(delays.random() / 100)
        running -= 1
        return item * item

    assert [result async for result in map_in_order(work, range(20), limit)] == [item * item for item in range(20)]
    assert most == min(limit, 20)


async def test_nothing_to_do() -> None:
    assert [result async for result in map_in_order(asyncio.sleep, [], 4)] == []


async def test_an_early_end_cancels_what_is_under_way() -> None:
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
