"""Batching as the server counts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.audio import load_audio
from client.recognizer import AsyncRecognizer
from client.server_statistics import Counters, StepStatistics, difference


def test_the_difference_of_two_snapshots() -> None:
    before = {"encoder": Counters(10, 5, 10, 1_000_000, 2_000_000), "idle": Counters(3, 3, 3, 5, 5)}
    after = {"encoder": Counters(40, 11, 40, 31_000_000, 122_000_000), "idle": Counters(3, 3, 3, 5, 5)}
    assert difference(before, after) == [
        StepStatistics("encoder", 30, 6, mean_batch_size=5.0, queue_ms=1.0, compute_ms=4.0),
        StepStatistics("idle", 0, 0, mean_batch_size=None, queue_ms=None, compute_ms=None),
    ]


async def test_each_step_counts_each_request(triton: Any, spoken: list[tuple[Path, str]]) -> None:
    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        before = await recognizer.step_counters()
        for path, _ in spoken[:3]:
            await recognizer.transcribe(load_audio(path))
        steps = difference(before, await recognizer.step_counters())
        assert tuple(step.model for step in steps) == recognizer.model.steps
    for step in steps:
        assert (step.inferences, step.executions, step.mean_batch_size) == (3, 3, 1.0)
        assert step.queue_ms is not None and 0 <= step.queue_ms < 10_000
        assert step.compute_ms is not None and 0 < step.compute_ms < 10_000
