"""Helpers for tests with several servers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TypeAlias

from tritonclient.grpc import InferenceServerClient
from waiting import DEADLINE_SECONDS, wait_until_async

from nemo_triton.audio import Samples
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.transcript import Transcript
from server.process import Server

Serve: TypeAlias = Callable[..., AbstractContextManager[Server]]


def settled_count(server: Server, model: str) -> int:
    """Read an idle server's count of recognitions, once it stops rising: a request is counted after its response."""
    with InferenceServerClient(server.grpc) as client:

        def count() -> int:
            return int(client.get_inference_statistics(model).model_stats[0].inference_stats.success.count)

        latest, changed = count(), time.monotonic()
        while time.monotonic() < changed + 0.5:
            time.sleep(0.05)
            if (current := count()) != latest:
                latest, changed = current, time.monotonic()
        return latest


def both(pair: tuple[Server, Server]) -> str:
    """The URL of both servers."""
    return ",".join(server.grpc for server in pair)


def restart(serve: Serve, server: Server, stack: ExitStack) -> Server:
    """Wait for a server to end, and start another at its address."""
    server.process.wait()
    return stack.enter_context(serve(server.grpc))


class Loop:
    """A closed loop of requests that runs until `stop`.

    Attributes:
        answers: Index of the recording and transcript of each response, in the order of arrival.
    """

    def __init__(self, recognizer: AsyncRecognizer, recordings: list[Samples], concurrency: int = 6) -> None:
        self.answers: list[tuple[int, Transcript]] = []
        self._recognizer, self._recordings = recognizer, recordings
        self._number, self._stopped = 0, False
        self._in_flight: set[int] = set()
        self._senders = [asyncio.ensure_future(self._send()) for _ in range(concurrency)]

    async def _send(self) -> None:
        while not self._stopped:
            number = self._number
            self._number += 1
            self._in_flight.add(number)
            index = number % len(self._recordings)
            self.answers.append((index, await self._recognizer.transcribe(self._recordings[index])))
            self._in_flight.remove(number)

    async def until(self, condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
        """Keep sending until the condition holds, or raise the error of a failed request."""

        def holds() -> bool:
            for sender in self._senders:
                if sender.done():
                    sender.result()
            return condition()

        await wait_until_async(holds, seconds)

    async def stop(self) -> None:
        """Wait for pending requests, or raise the error of a failed request."""
        self._stopped = True
        await asyncio.gather(*self._senders)
        assert len(self.answers) == self._number

    @property
    def sent(self) -> int:
        """Requests sent so far."""
        return self._number

    def answered_all_before(self, sent: int) -> bool:
        """Whether the first `sent` requests have responses."""
        return not any(number < sent for number in self._in_flight)

    def check(self, texts: list[str]) -> None:
        assert [transcript.text for _, transcript in self.answers] == [texts[index] for index, _ in self.answers]

    def by_endpoint(self, since: int = 0) -> Counter[str]:
        return Counter(transcript.endpoint for _, transcript in self.answers[since:])
