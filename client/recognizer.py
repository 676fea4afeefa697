"""The library: one connection to one recognizer, sync and async. In short:

    with Recognizer("stt_en_citrinet_512") as recognizer:
        print(recognizer.transcribe(load_audio("order.wav")).text)

AsyncRecognizer is the same for asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from client import server_statistics
from client.audio import Samples
from client.errors import RecognizerError
from client.protocol import (
    Answer,
    Calls,
    ServedModel,
    SharedSamples,
    Transcript,
    explain,
    explain_request,
    find_recognizer,
    find_recognizers,
    one_call,
    read_response,
    request,
)

DEFAULT_URL = "localhost:8001"
DEFAULT_TIMEOUT = 300.0
"""Seconds one recognition may take, the wait in the server's queue included."""

# Questions about the server are answered at once or not at all.
_QUESTION_TIMEOUT = 10.0

_SETTLE_TRIES = 20
_SETTLE_SECONDS = 0.05


def list_recognizers(url: str = DEFAULT_URL) -> list[str]:
    """The names of the recognizers that are ready at `url`, sorted. Raises ServerUnavailableError."""
    client = triton.InferenceServerClient(_checked(url))
    try:
        return _ask(client, url, find_recognizers())
    finally:
        client.close()


class Recognizer:
    """A connection to one recognizer; connects when it is made, and may be shared by threads.

    `model`: its name; None takes the only recognizer that the server has. `url`: host:port of the gRPC endpoint.
    `timeout`: seconds one recognition may take. Raises ServerUnavailableError when no server answers,
    UnknownModelError when that model is not served, not ready or no recognizer.
    """

    model: ServedModel

    def __init__(self, model: str | None = None, url: str = DEFAULT_URL, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.url = _checked(url)
        self.timeout = timeout
        self._client = triton.InferenceServerClient(self.url)
        try:
            self.model = _ask(self._client, self.url, find_recognizer(model))
        except BaseException:
            self.close()
            raise

    def transcribe(self, samples: Samples, log_probs: bool = False) -> Transcript:
        """Recognize int16 samples [T] at 16 kHz; T may be 0.

        Raises TypeError or ValueError for other samples, RecognitionError when the request fails.
        """
        try:
            result = self._client.infer(**request(self.model, samples, log_probs, self.timeout))
        except InferenceServerException as error:
            raise explain_request(error, self.model, self.url, self.timeout) from error
        return read_response(self.model, result, log_probs)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncRecognizer:
    """A connection to one recognizer for asyncio, where many requests share it; connects in `async with`.

    Arguments and errors are those of Recognizer. `model` is known once connected.
    """

    model: ServedModel

    def __init__(self, model: str | None = None, url: str = DEFAULT_URL, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.url = _checked(url)
        self.timeout = timeout
        self._name = model
        self._client: Any = None

    async def transcribe(self, samples: Samples | SharedSamples, log_probs: bool = False) -> Transcript:
        """As Recognizer.transcribe; samples may also lie in a region that `share` has told the server of."""
        try:
            result = await self._client.infer(**request(self.model, samples, log_probs, self.timeout))
        except InferenceServerException as error:
            raise explain_request(error, self.model, self.url, self.timeout) from error
        return read_response(self.model, result, log_probs)

    async def step_counters(self) -> server_statistics.Snapshot:
        """The server's counters of each step of this recognizer, every answer received so far included.

        Where others keep the server busy, so that the counters never rest, those after a second of waiting.
        """
        return await self._settled(self.model.steps)

    async def counters(self) -> server_statistics.Snapshot:
        """As step_counters, with those of the recognizer as a whole before its steps'."""
        return await self._settled((self.model.name, *self.model.steps))

    async def _settled(self, names: Sequence[str]) -> server_statistics.Snapshot:
        # Triton counts a batch only after it has sent the answers, so the last ones may still be missing.
        counters = await self._snapshot(names)
        for _ in range(_SETTLE_TRIES):
            await asyncio.sleep(_SETTLE_SECONDS)
            earlier, counters = counters, await self._snapshot(names)
            if counters == earlier:
                break
        return counters

    async def _snapshot(self, names: Sequence[str]) -> server_statistics.Snapshot:
        return await _ask_async(self._client, self.url, server_statistics.snapshot(names))

    async def is_live(self) -> bool:
        """Whether the server still answers."""
        try:
            return bool(await self._client.is_server_live(client_timeout=_QUESTION_TIMEOUT))
        except InferenceServerException:
            return False

    async def server_version(self) -> str:
        """Name and version of the server, as it tells them."""
        metadata = await _ask_async(self._client, self.url, one_call("get_server_metadata", {}))
        return f"{metadata.name} {metadata.version}"

    async def share(self, region: str, key: str, byte_size: int) -> None:
        """Have the server map POSIX shared memory `key` (with its leading slash) of this machine as `region`.

        Raises RecognizerError where it can't, as on another machine.
        """
        arguments = {"name": region, "key": key, "byte_size": byte_size}
        await _ask_async(self._client, self.url, one_call("register_system_shared_memory", arguments))

    async def unshare(self, region: str) -> None:
        """Have the server forget a region."""
        await _ask_async(self._client, self.url, one_call("unregister_system_shared_memory", {"name": region}))

    async def __aenter__(self) -> AsyncRecognizer:
        # Made here, not in __init__: a gRPC channel belongs to the event loop that is running when it is made.
        self._client = triton_aio.InferenceServerClient(self.url)
        try:
            self.model = await _ask_async(self._client, self.url, find_recognizer(self._name))
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()


def _checked(url: str) -> str:
    if "://" in url:
        raise RecognizerError(f"{url}: is not host:port; leave out what comes before //, e.g. {DEFAULT_URL}")
    return url


def _ask(client: Any, url: str, calls: Calls[Answer]) -> Answer:
    answer = None
    try:
        while True:
            method, arguments = calls.send(answer)
            answer = getattr(client, method)(**arguments, client_timeout=_QUESTION_TIMEOUT)
    except StopIteration as done:
        result: Answer = done.value
        return result
    except InferenceServerException as error:
        raise explain(error, url, _QUESTION_TIMEOUT) from error


async def _ask_async(client: Any, url: str, calls: Calls[Answer]) -> Answer:
    answer = None
    try:
        while True:
            method, arguments = calls.send(answer)
            answer = await getattr(client, method)(**arguments, client_timeout=_QUESTION_TIMEOUT)
    except StopIteration as done:
        result: Answer = done.value
        return result
    except InferenceServerException as error:
        raise explain(error, url, _QUESTION_TIMEOUT) from error
