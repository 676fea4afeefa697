"""CPU and memory by the metrics of a real server."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from nemo_triton.loadtest.server_metrics import Monitor


async def test_the_machine_is_watched(triton: Any) -> None:
    monitor = Monitor(triton.metrics)
    async with monitor.watching():
        await asyncio.sleep(5)
    usage = monitor.usage()
    assert monitor.problem is None and usage is not None
    assert usage.samples >= 2
    assert usage.cpu is not None and 0 <= usage.cpu.mean <= usage.cpu.highest <= 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert usage.memory_bytes is not None and 2**28 < usage.memory_bytes.highest < memory
    assert usage.gpus == ()


async def test_absent_metrics_are_named(absent_url: str) -> None:
    monitor = Monitor(f"http://{absent_url}/metrics")
    async with monitor.watching():
        await asyncio.sleep(0.5)
    assert monitor.usage() is None
    assert monitor.problem is not None and absent_url in monitor.problem and "--metrics-url" in monitor.problem


async def test_a_port_that_speaks_another_language_is_named(triton: Any) -> None:
    monitor = Monitor(f"http://{triton.url}/metrics")
    async with monitor.watching():
        await asyncio.sleep(0.5)
    assert monitor.usage() is None
    assert monitor.problem is not None and triton.url in monitor.problem
    assert monitor.problem.isprintable() and "speaks no HTTP" in monitor.problem
