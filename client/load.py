"""A closed loop of requests: a fixed number in flight, the next one sent as one comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from client.audio import Samples, seconds
from client.errors import RecognitionError, RecognizerError
from client.manifest import Utterance
from client.recognizer import AsyncRecognizer
from client.server_statistics import StepStatistics, difference


@dataclass(frozen=True)
class Recording:
    """An utterance with its audio in memory: int16 samples [T] at 16 kHz."""

    utterance: Utterance
    samples: Samples

    @property
    def duration(self) -> float:
        """Seconds."""
        return seconds(self.samples)


@dataclass(frozen=True)
class Response:
    """What came back for one recording: a text, or the error in its place."""

    recording: Recording
    text: str
    latency: float
    """Seconds from sending the request to having its answer."""
    error: str | None = None


@dataclass
class LoadRun:
    """All that one run measured; filled while it goes, so that an interrupted run keeps what it has."""

    responses: list[Response] = field(default_factory=list)
    """In the order they came back."""
    wall_seconds: float = 0.0
    steps: list[StepStatistics] = field(default_factory=list)
    """By the server's own counters; empty where it could not be asked any more."""


async def run_load(
    recognizer: AsyncRecognizer,
    recordings: Sequence[Recording],
    concurrency: int,
    run: LoadRun,
    on_response: Callable[[Response], None],
) -> None:
    """Send every recording once, `concurrency` in flight, and fill `run`, also when it is cancelled halfway."""
    before = await recognizer.step_counters()
    waiting = iter(recordings)
    start = time.perf_counter()
    tasks = [asyncio.ensure_future(_send_all(recognizer, waiting, run, on_response)) for _ in range(concurrency)]
    try:
        await asyncio.gather(*tasks)
    finally:
        run.wall_seconds = time.perf_counter() - start
        try:
            run.steps = difference(before, await recognizer.step_counters())
        except RecognizerError:
            # The server went away; each request that it left unanswered already says so.
            run.steps = []


async def warm_up(recognizer: AsyncRecognizer, recordings: Sequence[Recording], count: int, concurrency: int) -> None:
    """Send `count` requests whose results are dropped, so that the measured ones meet a server that has run before."""
    # Errors are dropped too: what fails here fails again, and is reported, when it is measured.
    await run_load(recognizer, list(islice(cycle(recordings), count)), concurrency, LoadRun(), lambda response: None)


async def _send_all(
    recognizer: AsyncRecognizer, waiting: Iterator[Recording], run: LoadRun, on_response: Callable[[Response], None]
) -> None:
    """One of the senders: takes the next recording that no other has taken."""
    for recording in waiting:
        sent = time.perf_counter()
        text, error = "", None
        try:
            text = (await recognizer.transcribe(recording.samples)).text
        except RecognitionError as failure:
            error = str(failure)
        response = Response(recording, text, time.perf_counter() - sent, error)
        run.responses.append(response)
        on_response(response)
