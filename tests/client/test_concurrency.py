"""map_in_order keeps the order, the concurrency limit and the limit of waiting results."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Iterator

import pytest
from waiting import wait_until_async

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


class Gate:
    """Work that ends when its item is opened."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.ended: list[int] = []
        self._open: dict[int, asyncio.Event] = {}

    async def work(self, item: int) -> int:
        self.started.append(item)
        await self._event(item).wait()
        self.ended.append(item)
        return item

    def open(self, *items: int) -> None:
        for item in items:
            self._event(item).set()

    def _event(self, item: int) -> asyncio.Event:
        return self._open.setdefault(item, asyncio.Event())

    @property
    def running(self) -> int:
        return len(self.started) - len(self.ended)


async def test_other_items_go_on_while_the_first_one_runs() -> None:
    gate = Gate()
    gate.open(*range(1, 50))
    results = map_in_order(gate.work, range(50), 4)
    first = asyncio.ensure_future(anext(results))
    await wait_until_async(lambda: len(gate.ended) == 49)
    assert not first.done()
    gate.open(0)
    assert [await first, *[result async for result in results]] == list(range(50))


async def test_the_limit_is_kept_while_nobody_reads_results() -> None:
    gate = Gate()
    gate.open(0)
    results = map_in_order(gate.work, range(50), 4)
    assert await anext(results) == 0
    for item in range(1, 40):
        # The reader of the results is busy, as if it wrote to a slow disk.
        await wait_until_async(lambda: gate.running == 4)
        gate.open(item)
    gate.open(*range(50))
    assert [result async for result in results] == list(range(1, 50))


async def test_waiting_results_are_bounded() -> None:
    gate = Gate()
    gate.open(*range(1, 50))
    results = map_in_order(gate.work, range(50), 4, max_waiting=10)
    first = asyncio.ensure_future(anext(results))
    await wait_until_async(lambda: len(gate.ended) == 13)
    for _ in range(20):
        await asyncio.sleep(0)  # Gives tasks that must not exist the chance to start.
    assert gate.started == list(range(14)), "the first one, 3 others that may run and 10 that wait"
    gate.open(0)
    assert [await first, *[result async for result in results]] == list(range(50))


async def test_an_interrupt_keeps_the_results_that_wait() -> None:
    gate = Gate()
    kept: list[int] = []
    gate.open(1, 2, 3, 5)
    results = map_in_order(gate.work, range(50), 2, on_interrupt=kept.append)
    first = asyncio.ensure_future(anext(results))
    await wait_until_async(lambda: gate.ended == [1, 2, 3] and 4 in gate.started)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert kept == [1, 2, 3]


async def test_work_of_finished_items_is_freed_while_their_results_wait() -> None:
    class Audio:
        pass

    audio: weakref.WeakSet[Audio] = weakref.WeakSet()
    gate = Gate()
    gate.open(*range(1, 50))

    async def work(item: int) -> int:
        samples = Audio()
        audio.add(samples)
        return await gate.work(item)

    results = map_in_order(work, range(50), 4)
    first = asyncio.ensure_future(anext(results))
    await wait_until_async(lambda: len(gate.ended) == 49)
    gc.collect()
    assert len(audio) == 1, "only the first item still runs"
    gate.open(0)
    assert await first == 0
    await results.aclose()


async def test_an_error_comes_in_its_place_and_starts_no_more_work() -> None:
    gate = Gate()

    async def work(item: int) -> int:
        await gate.work(item)
        if item == 2:
            raise ValueError("broken")
        return item

    results = map_in_order(work, range(50), 4)
    first = asyncio.ensure_future(anext(results))
    await wait_until_async(lambda: gate.running == 4)
    gate.open(2)
    await wait_until_async(lambda: gate.ended == [2])
    gate.open(0, 1)
    assert [await first, await anext(results)] == [0, 1]
    with pytest.raises(ValueError, match="broken"):
        await anext(results)
    assert gate.started == [0, 1, 2, 3]


async def test_an_error_of_the_items_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the manifest is gone")

    gate = Gate()
    gate.open(0, 1, 2)
    results = map_in_order(gate.work, items(), 2)
    assert [await anext(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the manifest is gone"):
        await anext(results)
