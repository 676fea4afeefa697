"""Senders: errors that end them early, the client's own load, and audio in a spool or in shared memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
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
from nemo_triton.loadtest.shared_audio import SharedAudio, in_region
from nemo_triton.loadtest.spool import Spool, SpooledSamples
from nemo_triton.protocol import SharedSamples
from nemo_triton.recognizer import AsyncRecognizer

Spoken = list[tuple[Path, str]]


@pytest.fixture
def audio(spoken: Spoken) -> list[Samples]:
    return [load_audio(path) for path, _ in spoken[:4]]


@pytest.fixture
def spooled(audio: list[Samples]) -> Iterator[list[SpooledSamples]]:
    with Spool() as spool:
        yield [spool.add(samples) for samples in audio]


def plan(load: Load, requests: int = 400) -> Plan:
    return Plan(load, (0, 1, 2, 3), shuffled=False, seed=0, requests=requests)


def assignment_of(triton: Any, audio: list[SpooledSamples]) -> Assignment:
    return Assignment(model=triton.model, url=triton.url, timeout=60.0, tls=None, audio=audio, retries=0)


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
async def test_an_error_ends_the_run_and_not_only_one_request(
    triton: Any, audio: list[Samples], spooled: list[SpooledSamples], load: Load
) -> None:
    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        for source in (audio, spooled):
            assert 0 < await fails_at_the_first_answer(LocalSenders(recognizer, source), load) < 100
    with ProcessSenders(assignment_of(triton, spooled), 2) as senders:
        assert 0 < await fails_at_the_first_answer(senders, load) < 100


async def test_each_process_reports_its_load(triton: Any, spooled: list[SpooledSamples]) -> None:
    run = LoadRun(ClosedLoop(2))
    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        with ProcessSenders(assignment_of(triton, spooled), 2) as senders:
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


SLOW_READ_SECONDS = 0.5


class OnASlowDisk(SpooledSamples):
    """Samples that take longer to read than to recognize."""

    async def read(self) -> Samples:
        await asyncio.sleep(SLOW_READ_SECONDS)
        return await super().read()


@pytest.mark.parametrize("load", [ClosedLoop(1), OpenLoop(1.0)])
async def test_latency_counts_no_time_to_read_the_audio(triton: Any, spooled: list[SpooledSamples], load: Load) -> None:
    slow = [
        OnASlowDisk(file=audio.file, offset=audio.offset, count=audio.count, dtype=audio.dtype) for audio in spooled
    ]
    responses: list[Response] = []
    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        await LocalSenders(recognizer, spooled).run(plan(load, 4), lambda response: None)
        await LocalSenders(recognizer, slow).run(plan(load, 4), responses.append)
    assert [response.error for response in responses] == [None] * 4
    spent = [response.answered - response.sent for response in responses]
    assert min(spent) < SLOW_READ_SECONDS
    if isinstance(load, ClosedLoop):
        assert [response.latency for response in responses] == pytest.approx(spent, abs=0.01)
        assert responses[-1].sent >= 4 * SLOW_READ_SECONDS


def contents(shared: SharedAudio) -> bytes:
    """What another process reads from the block."""
    return Path(f"/dev/shm{shared.key}").read_bytes()


def test_shared_audio_equals_the_audio(audio: list[Samples]) -> None:
    levels: Any = [samples.astype(np.float32) / 32768 for samples in audio]
    recordings: list[Samples] = [*audio, np.zeros(0, np.int16), *levels]
    with Spool() as spool:
        spooled = [spool.add(samples) for samples in recordings]
        with SharedAudio(spool) as shared:
            block = contents(shared)
            assert len(block) == shared.byte_size
            path = Path(f"/dev/shm{shared.key}")
        assert not path.exists()
    for place, samples in zip(in_region("region", spooled), recordings, strict=True):
        if isinstance(place, SharedSamples):
            assert (place.region, place.count) == ("region", len(samples))
            stored = np.frombuffer(block[place.offset : place.offset + place.byte_size], place.dtype)
            assert stored.dtype == samples.dtype and np.array_equal(stored, samples)
        else:
            assert len(place) == len(samples) == 0, "an empty recording has no place in shared memory"


def test_audio_larger_than_shared_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool() as spool:
        spool.add(np.zeros(1000, np.int16))
        # Filling the machine's own shared memory could end other programs.
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
        with pytest.raises(ClientError, match=r"/dev/shm has 0 MB free but the audio needs 0 MB; .*--shm"):
            SharedAudio(spool)
