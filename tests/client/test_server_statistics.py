"""Batching as the server counts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nemo_triton.audio import load_audio
from nemo_triton.loadtest.server_counters import Counters, StepStatistics, difference, together
from nemo_triton.recognizer import AsyncRecognizer


def test_the_difference_of_two_snapshots() -> None:
    before = {
        "encoder": Counters(10, 5, 10, 9_000_000, 1_000_000, 0, 2_000_000, 0, {2: 5}, 1_000_000),
        "idle": Counters(3, 3, 3, 5, 5),
    }
    after = {
        "encoder": Counters(
            40, 11, 40, 189_000_000, 31_000_000, 6_000_000, 122_000_000, 3_000_000, {2: 5, 4: 3, 6: 3}, 29_000_000
        ),
        "idle": Counters(3, 3, 3, 5, 5),
    }
    encoder = StepStatistics("encoder", 30, 6, 5.0, 6.0, 1.0, 0.2, 4.0, 0.1, {4: 3, 6: 3}, 28.0)
    idle = StepStatistics("idle", 0, 0, None, None, None, None, None, None, {})
    assert difference(before, after) == [encoder, idle]


def test_sessions_add_up() -> None:
    first = {"encoder": Counters(3, 2, 3, 4, 1, 1, 1, 1, {1: 1, 2: 1})}
    assert together({}, first) == first
    assert together(first, first) == {"encoder": Counters(6, 4, 6, 8, 2, 2, 2, 2, {1: 2, 2: 2})}


async def test_each_step_counts_each_request(triton: Any, spoken: list[tuple[Path, str]]) -> None:
    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        before = await recognizer.counters()
        for path, _ in spoken[:3]:
            await recognizer.transcribe(load_audio(path))
        whole, *steps = difference(before, await recognizer.counters())
        assert whole.model == triton.model and whole.inferences == 3
        assert tuple(step.model for step in steps) == recognizer.model.steps
    for step in steps:
        assert (step.inferences, step.executions, step.mean_batch_size) == (3, 3, 1.0)
        assert step.batch_sizes == {1: 3}
        assert step.queue_ms is not None and 0 <= step.queue_ms < 10_000
        assert step.infer_ms is not None and 0 < step.infer_ms < 10_000
        # Each was alone in its batch.
        assert step.executing_ms == pytest.approx(3 * step.infer_ms)
