"""Senders: errors that end them early, and the client's own load."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemo_triton.audio import Samples, load_audio
from nemo_triton.errors import ClientError
from nemo_triton.loadtest.measure import LoadRun, measure
from nemo_triton.loadtest.recording import Response
from nemo_triton.loadtest.schedule import ClosedLoop, Load, OpenLoop, Plan
from nemo_triton.loadtest.sender import LocalSenders, Senders
from nemo_triton.loadtest.sender_processes import Assignment, ProcessSenders
from nemo_triton.loadtest.shared_audio import SharedAudio
from nemo_triton.recognizer import AsyncRecognizer

Spoken = list[tuple[Path, str]]


@pytest.fixture
def audio(spoken: Spoken) -> list[Samples]:
    return [load_audio(path) for path, _ in spoken[:4]]


def plan(load: Load, requests: int = 400) -> Plan:
    return Plan(load, (0, 1, 2, 3), shuffled=False, seed=0, requests=requests)


def assignment_of(triton: Any, audio: SharedAudio) -> Assignment:
    return Assignment(
        model=triton.model, url=triton.url, timeout=60.0, tls=None, block=audio.block, region=None, retries=0
    )


async def fails_at_the_first_answer(senders: Senders, load: Load) -> int:
    """Number of responses, of 400 requests, before the senders stopped."""
    responses = []

    def full_disk(response: Response) -> None:
        responses.append(response)
        raise ClientError("no room")

    with pytest.raises(ClientError, match="no room"):
        await senders.run(plan(load), full_disk)
    return len(responses)


@pytest.mark.parametrize("load", [ClosedLoop(1), OpenLoop(20.0)])
async def test_an_error_ends_the_run_and_not_only_one_request(triton: Any, audio: list[Samples], load: Load) -> None:
    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        assert 0 < await fails_at_the_first_answer(LocalSenders(recognizer, audio), load) < 100
    with SharedAudio.holding(audio) as shared:
        assignment = assignment_of(triton, shared)
        with ProcessSenders(assignment, 2) as senders:
            assert 0 < await fails_at_the_first_answer(senders, load) < 100


async def test_each_process_reports_its_load(triton: Any, audio: list[Samples]) -> None:
    run = LoadRun(ClosedLoop(2))
    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        with SharedAudio.holding(audio) as shared:
            assignment = assignment_of(triton, shared)
            with ProcessSenders(assignment, 2) as senders:
                await measure(recognizer, senders, plan(run.load, 40), run)
    (session,) = run.sessions
    assert len(session.client_cpu_seconds) == len(session.loop_lag_seconds) == 2
    assert all(0 < seconds < session.wall_seconds * 2 for seconds in session.client_cpu_seconds)
    assert all(0 <= lag < session.wall_seconds for lag in session.loop_lag_seconds)
    assert session.counted[triton.model].inferences == len(run.responses) == 40


async def test_a_loop_that_does_not_get_the_cpu_is_late(triton: Any, audio: list[Samples]) -> None:
    def slow(response: Response) -> None:
        time.sleep(0.1)

    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        effort = await LocalSenders(recognizer, audio).run(plan(ClosedLoop(2), 10), slow)
    assert effort.loop_lag_seconds[0] > 0.05


def test_shared_audio_equals_the_audio(audio: list[Samples]) -> None:
    with SharedAudio.holding([*audio, np.zeros(0, np.int16)]) as shared, SharedAudio.attached(shared.block) as other:
        for place, samples in zip(other.samples(), [*audio, np.zeros(0, np.int16)], strict=True):
            assert np.array_equal(place, samples)
        del place


def test_audio_larger_than_shared_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Filling the machine's own shared memory could end other programs.
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(ClientError, match="/dev/shm has 0 MB free but the audio needs"):
        SharedAudio.holding([np.zeros(1000, np.int16)])
