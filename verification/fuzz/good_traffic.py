"""Valid requests beside the mutated ones, whose texts must not change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from nemo_triton.audio import Samples
from nemo_triton.errors import RecognizerError
from nemo_triton.recognizer import AsyncRecognizer


class GoodTraffic:
    """Closed loops of valid requests to several servers, for use in an `async with` block.

    Attributes:
        answered: Number of requests with the expected text.
        retried: Number of these that were sent more than once.
        wrong: One line per request that failed or has another text.
    """

    def __init__(self, models: Sequence[str], urls: Sequence[str], recordings: Sequence[Samples], loops: int) -> None:
        self.answered = self.retried = 0
        self.wrong: list[str] = []
        self._models, self._urls, self._recordings, self._loops = models, urls, recordings, loops
        self._stopped = False

    async def __aenter__(self) -> GoodTraffic:
        async with AsyncExitStack() as stack:
            self._recognizers = [
                await stack.enter_async_context(AsyncRecognizer(model, self._urls)) for model in self._models
            ]
            self._expected = [
                [(await recognizer.transcribe(samples)).text for samples in self._recordings]
                for recognizer in self._recognizers
            ]
            self._tasks = [asyncio.ensure_future(self._send(first)) for first in range(self._loops)]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)
        await self._stack.aclose()

    async def _send(self, first: int) -> None:
        number = first
        while not self._stopped:
            number += self._loops
            which, recording = number % len(self._recognizers), number % len(self._recordings)
            try:
                transcript = await self._recognizers[which].transcribe(self._recordings[recording])
            except RecognizerError as error:
                self.wrong.append(f"{self._models[which]}, recording {recording}: {error}")
                continue
            if transcript.text == self._expected[which][recording]:
                self.answered += 1
                self.retried += transcript.attempts > 1
            else:
                self.wrong.append(
                    f"{self._models[which]}, recording {recording}: text {transcript.text!r}, "
                    f"expected {self._expected[which][recording]!r}"
                )
