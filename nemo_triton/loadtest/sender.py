"""Send the requests of a plan from this process; sender_processes.py sends from several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from nemo_triton.audio import Samples
from nemo_triton.errors import DeadlineExceededError, QueueFullError, RecognitionError, UnavailableError
from nemo_triton.loadtest.recording import Response
from nemo_triton.loadtest.schedule import ClosedLoop, OpenLoop, Plan, Request
from nemo_triton.loadtest.servers import Servers
from nemo_triton.loadtest.spool import SpooledSamples
from nemo_triton.protocol import SharedSamples
from nemo_triton.recognizer import AsyncRecognizer

OnResponse = Callable[[Response], None]
Audio: TypeAlias = Samples | SharedSamples | SpooledSamples
"""Samples of a recording, or where they are."""

_FIRST_RETRY_SECONDS = 0.1
_LAG_INTERVAL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Cost of sending on the client, to see whether the client was the limit.

    Attributes:
        cpu_seconds: CPU time of each sending process.
        loop_lag_seconds: For each sending process, the 95th percentile of how late its event loop woke up.
        server_gone: Whether the last server went down during the load.
    """

    cpu_seconds: tuple[float, ...] = ()
    loop_lag_seconds: tuple[float, ...] = ()
    server_gone: bool = False


class Senders(Protocol):
    """An interface to send the requests of plans."""

    async def run(self, plan: Plan, on_response: OnResponse) -> Effort:
        """Send all requests of a plan and pass each response to `on_response` as it arrives."""


@dataclass
class LocalSenders:
    """Senders in this process.

    Attributes:
        recognizer: A connected recognizer.
        audio: Samples of each recording, or where they are.
        retries: Number of retries of a request if the server is down.
    """

    recognizer: AsyncRecognizer
    audio: Sequence[Audio]
    retries: int = 0

    async def run(self, plan: Plan, on_response: OnResponse) -> Effort:
        """See Senders.run."""
        part = PlanPart(
            recognizer=self.recognizer,
            audio=self.audio,
            retries=self.retries,
            start=time.monotonic(),
            on_response=on_response,
        )
        return await part.send(plan, number=0, parts=1)


async def _note_lags(lags: list[float]) -> None:
    """Append how many seconds late the event loop wakes up, until cancelled."""
    while True:
        due = time.monotonic() + _LAG_INTERVAL_SECONDS
        await asyncio.sleep(_LAG_INTERVAL_SECONDS)
        lags.append(time.monotonic() - due)


@dataclass(kw_only=True)
class PlanPart:
    """The part of a plan that one process sends.

    Attributes:
        recognizer: A connected recognizer.
        audio: Samples of each recording, or where they are.
        retries: Number of retries of a request if the server is down.
        start: Start time on the machine's monotonic clock, the same for all processes.
        on_response: Function that is called with each response as it arrives.
        server_gone: Whether the last server went down.
        refusals_are_failures: Whether a request for which queues had no room failed, instead of being refused.
    """

    recognizer: AsyncRecognizer
    audio: Sequence[Audio]
    retries: int
    start: float
    on_response: OnResponse
    server_gone: bool = field(default=False, init=False)
    refusals_are_failures: bool = field(default=True, init=False)

    async def send(self, plan: Plan, *, number: int, parts: int) -> Effort:
        """Send the requests of part `number` of `parts`; stop early if the last server goes down."""
        requests = plan.part(number, of=parts)
        load = plan.load
        # By default the users of an open loop don't wait: a retry would hide that the server refused one.
        self.recognizer.retry_full_queue = load.waits if isinstance(load, OpenLoop) else True
        self.refusals_are_failures = isinstance(load, ClosedLoop)
        await self._until(0.0)
        cpu = time.process_time()
        lags: list[float] = []
        watching = asyncio.ensure_future(_note_lags(lags))
        if isinstance(plan.load, ClosedLoop):
            senders = plan.load.part(number, of=parts)
            tasks = [asyncio.ensure_future(self._keep_sending(requests, plan.seconds)) for _ in range(senders)]
        else:
            tasks = [asyncio.ensure_future(self._send_when_due(requests))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in (*tasks, watching):
                task.cancel()
        lag = float(np.percentile(lags, 95)) if lags else 0.0
        return Effort(cpu_seconds=(time.process_time() - cpu,), loop_lag_seconds=(lag,), server_gone=self.server_gone)

    async def _keep_sending(self, requests: Iterator[Request], seconds: float | None) -> None:
        """Send one request after the other; a closed loop runs this once per concurrent request."""
        while not self.server_gone and (seconds is None or self._now() < seconds):
            request = next(requests, None)
            if request is None:
                return
            samples = await self._read(request)
            await self._send(request, samples, self._now())

    async def _send_when_due(self, requests: Iterator[Request]) -> None:
        in_flight: list[asyncio.Future[None]] = []
        failed: list[asyncio.Future[None]] = []

        def note(sending: asyncio.Future[None]) -> None:
            if not sending.cancelled() and sending.exception():
                failed.append(sending)

        try:
            for request in requests:
                samples = await self._read(request)
                await self._until(request.due)
                if self.server_gone or failed:
                    break
                in_flight.append(asyncio.ensure_future(self._send(request, samples, request.due)))
                in_flight[-1].add_done_callback(note)
            await asyncio.gather(*in_flight)
        finally:
            for sending in in_flight:
                sending.cancel()

    async def _read(self, request: Request) -> Samples | SharedSamples:
        """Read the samples before the request is due, so that reading is no part of its latency."""
        audio = self.audio[request.recording]
        return await audio.read() if isinstance(audio, SpooledSamples) else audio

    async def _send(self, request: Request, samples: Samples | SharedSamples, due: float) -> None:
        sent, tries, attempts, refusals = self._now(), 0, 0, 0
        text, endpoint, error, deadline_exceeded, refused = "", "", None, False, False
        while True:
            tries += 1
            try:
                transcript = await self.recognizer.transcribe(samples)
                text, endpoint = transcript.text, transcript.endpoint
                attempts, refusals = attempts + transcript.attempts, refusals + transcript.refusals
            except RecognitionError as failure:
                attempts, refusals = attempts + failure.attempts, refusals + failure.refusals
                is_full = isinstance(failure, QueueFullError)
                if isinstance(failure, UnavailableError) and not is_full:
                    if tries <= self.retries:
                        await asyncio.sleep(_FIRST_RETRY_SECONDS * 2 ** (tries - 1))
                        continue
                    self.server_gone = self.server_gone or not await Servers(self.recognizer).is_live()
                error, refused = str(failure), is_full and not self.refusals_are_failures
                deadline_exceeded = isinstance(failure, DeadlineExceededError)
            break
        self.on_response(
            Response(
                number=request.number,
                recording=request.recording,
                text=text,
                due=due,
                sent=sent,
                answered=self._now(),
                attempts=attempts,
                error=error,
                deadline_exceeded=deadline_exceeded,
                refused=refused,
                refusals=refusals,
                endpoint=endpoint,
            )
        )

    def _now(self) -> float:
        return time.monotonic() - self.start

    async def _until(self, moment: float) -> None:
        wait = moment - self._now()
        if wait > 0:
            await asyncio.sleep(wait)
