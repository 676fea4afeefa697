"""What tests with several servers share."""

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
    """How many recognitions a server that rests has answered, by its own count: it counts after it has answered."""
    with InferenceServerClient(server.grpc) as client:

        def count() -> int:
            return int(client.get_inference_statistics(model).model_stats[0].inference_stats.success.count)

        latest, since = count(), time.monotonic()
        while time.monotonic() < since + 0.5:
            time.sleep(0.05)
            if (later := count()) != latest:
                latest, since = later, time.monotonic()
        return latest


def both(pair: tuple[Server, Server]) -> str:
    return ",".join(server.grpc for server in pair)


def restart(serve: Serve, server: Server, stack: ExitStack) -> Server:
    """Another at the address of one that has ended."""
    server.process.wait()
    return stack.enter_context(serve(server.grpc))


class Loop:
    """Keeps `at_once` requests in flight until it is told to stop; what comes back, in the order it does."""

    def __init__(self, recognizer: AsyncRecognizer, recordings: list[Samples], at_once: int = 6) -> None:
        self.answers: list[tuple[int, Transcript]] = []
        self._recognizer, self._recordings = recognizer, recordings
        self._number, self._stopped = 0, False
        self._in_flight: set[int] = set()
        self._senders = [asyncio.ensure_future(self._send()) for _ in range(at_once)]

    async def _send(self) -> None:
        while not self._stopped:
            number = self._number
            self._number += 1
            self._in_flight.add(number)
            place = number % len(self._recordings)
            self.answers.append((place, await self._recognizer.transcribe(self._recordings[place])))
            self._in_flight.remove(number)

    async def until(self, condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
        """Keep sending until the condition holds. Raises what a request failed with."""

        def holds() -> bool:
            for sender in self._senders:
                if sender.done():
                    sender.result()
            return condition()

        await wait_until_async(holds, seconds)

    async def stop(self) -> None:
        """Raises what a request failed with."""
        self._stopped = True
        await asyncio.gather(*self._senders)
        assert len(self.answers) == self._number

    @property
    def sent(self) -> int:
        """How many requests were sent so far."""
        return self._number

    def answered_all_before(self, sent: int) -> bool:
        """Whether all that were sent by then are answered."""
        return not any(number < sent for number in self._in_flight)

    def check(self, texts: list[str]) -> None:
        assert [transcript.text for _, transcript in self.answers] == [texts[place] for place, _ in self.answers]

    def by_endpoint(self, since: int = 0) -> Counter[str]:
        return Counter(transcript.endpoint for _, transcript in self.answers[since:])
