"""Triton's statistics of batching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nemo_triton.audio import as_float, load_audio
from nemo_triton.loadtest.server_counters import Counters, StepStatistics, add, difference
from nemo_triton.loadtest.servers import Servers
from nemo_triton.recognizer import AsyncRecognizer

IDLE = Counters(inferences=3, executions=3, requests=3, request_ns=5, queue_ns=5)


def test_the_difference_of_two_snapshots() -> None:
    before = {
        "encoder": Counters(
            inferences=10,
            executions=5,
            requests=10,
            request_ns=9_000_000,
            queue_ns=1_000_000,
            input_ns=0,
            infer_ns=2_000_000,
            output_ns=0,
            batches={2: 5},
            executing_ns=1_000_000,
        ),
        "idle": IDLE,
    }
    after = {
        "encoder": Counters(
            inferences=40,
            executions=11,
            requests=40,
            request_ns=189_000_000,
            queue_ns=31_000_000,
            input_ns=6_000_000,
            infer_ns=122_000_000,
            output_ns=3_000_000,
            batches={2: 5, 4: 3, 6: 3},
            executing_ns=29_000_000,
        ),
        "idle": IDLE,
    }
    encoder = StepStatistics(
        model="encoder",
        inferences=30,
        executions=6,
        mean_batch_size=5.0,
        request_ms=6.0,
        queue_ms=1.0,
        input_ms=0.2,
        infer_ms=4.0,
        output_ms=0.1,
        batch_sizes={4: 3, 6: 3},
        executing_ms=28.0,
    )
    idle = StepStatistics(
        model="idle",
        inferences=0,
        executions=0,
        mean_batch_size=None,
        request_ms=None,
        queue_ms=None,
        input_ms=None,
        infer_ms=None,
        output_ms=None,
        batch_sizes={},
    )
    assert difference(before, after) == [encoder, idle]


def test_sessions_add_up() -> None:
    first = {
        "encoder": Counters(
            inferences=3,
            executions=2,
            requests=3,
            request_ns=4,
            queue_ns=1,
            input_ns=1,
            infer_ns=1,
            output_ns=1,
            batches={1: 1, 2: 1},
        )
    }
    both = Counters(
        inferences=6,
        executions=4,
        requests=6,
        request_ns=8,
        queue_ns=2,
        input_ns=2,
        infer_ns=2,
        output_ns=2,
        batches={1: 2, 2: 2},
    )
    assert add({}, first) == first
    assert add(first, first) == {"encoder": both}


@pytest.mark.parametrize("is_float", [False, True])
async def test_each_step_counts_each_request(triton: Any, spoken: list[tuple[Path, str]], is_float: bool) -> None:
    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        servers = Servers(recognizer)
        before = await servers.counters()
        for path, _ in spoken[:3]:
            samples = load_audio(path)
            await recognizer.transcribe(as_float(samples) if is_float else samples)
        whole, *steps = difference(before, await servers.counters())
        assert whole.model == triton.model and whole.inferences == 3
        audio, audio_float, features, features_float, *others = recognizer.model.steps
        assert (audio_float, features_float) == (f"{audio}_float", f"{features}_float")
        used = (audio_float, features_float) if is_float else (audio, features)
        assert [step.model for step in steps] == [*used, *others]
    for step in steps:
        assert (step.inferences, step.executions, step.mean_batch_size) == (3, 3, 1.0)
        assert step.batch_sizes == {1: 3}
        assert step.queue_ms is not None and 0 <= step.queue_ms < 10_000
        assert step.infer_ms is not None and 0 < step.infer_ms < 10_000
        # Each was unbatched.
        assert step.executing_ms == pytest.approx(3 * step.infer_ms)
