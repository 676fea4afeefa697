"""The library: one connection to one recognizer, sync and async. In short:

    with Recognizer("stt_en_citrinet_512") as recognizer:
        print(recognizer.transcribe(load_audio("order.wav")).text)

AsyncRecognizer is the same for asyncio.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from nemo_triton.audio import Samples
from nemo_triton.endpoints import (
    DEFAULT_URL,
    LOOK_SECONDS,
    Address,
    Call,
    Target,
    TargetCalls,
    Targets,
    asked_of,
    checked,
    worst,
)
from nemo_triton.errors import RecognizerError, ServerUnavailableError
from nemo_triton.loadtest import server_counters as server_statistics
from nemo_triton.protocol import (
    Answer,
    Calls,
    ServedModel,
    SharedSamples,
    Transcript,
    find_recognizers,
    one_call,
    read_response,
    request,
)
from nemo_triton.tls import Tls

DEFAULT_TIMEOUT = 300.0
"""Seconds one recognition may take, the wait in the server's queue included."""

_SETTLE_TRIES = 20
_SETTLE_SECONDS = 0.05

Client = TypeVar("Client")


class Joined(NamedTuple):
    """A stretch of time in which a target was there: its name, and how often it had come by then."""

    target: str
    times: int


def list_recognizers(url: str | Sequence[str] = DEFAULT_URL, tls: Tls | None = None) -> list[str]:
    """The names of the recognizers that are ready at `url`, sorted; of several servers the first that answers.

    Raises ServerUnavailableError.
    """
    errors: dict[Target, RecognizerError] = {}
    connect = _connector(triton.InferenceServerClient, tls)
    for address in (Address(each, each) for each in checked(url)):
        target = Target(address, connect(address))
        try:
            return _make(asked_of(target, find_recognizers()))
        except ServerUnavailableError as error:
            errors[target] = error
        finally:
            target.connection.close()
    raise worst(errors)


class Recognizer:
    """A connection to one recognizer; connects when it is made, and may be shared by threads.

    model: its name; None takes the only recognizer that the server has
    url: host:port of the gRPC endpoint; several, with commas between them or as a sequence, share the requests, and so
        do the addresses of a host name that has several. What a server that goes away left unanswered is asked for at
        another. A server that is left out is one warning of the logger `nemo_triton.endpoints`, one that is back is
        an info.
    timeout: seconds one recognition may take
    tls: for servers that speak it; Tls() trusts the system's authorities
    Raises ServerUnavailableError when no server answers, UnknownModelError when that model is not served, not ready or
    no recognizer, RecognizerError when servers have different exports of it.
    """

    model: ServedModel

    def __init__(
        self,
        model: str | None = None,
        url: str | Sequence[str] = DEFAULT_URL,
        timeout: float = DEFAULT_TIMEOUT,
        tls: Tls | None = None,
    ) -> None:
        urls = checked(url)
        self.url = ",".join(urls)
        self.timeout = timeout
        self._targets = Targets(urls, tls, _connector(triton.InferenceServerClient, tls))
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._keep_looking, daemon=True)
        try:
            _make(self._targets.connect(model))
        except BaseException:
            self.close()
            raise
        self.model = self._targets.model
        if self._targets.may_change:
            self._watch.start()

    def transcribe(self, samples: Samples, log_probs: bool = False) -> Transcript:
        """Recognize int16 samples [T] at 16 kHz; T may be 0.

        Raises TypeError or ValueError for other samples, RecognitionError when the request fails.
        """
        arguments = request(self.model, samples, log_probs)
        answered = _make(self._targets.recognition(self.model, arguments, self.timeout))
        return read_response(self.model, answered, log_probs)

    def close(self) -> None:
        """End the connection."""
        self._closed.set()
        _make(self._targets.close())
        if self._watch.is_alive():
            self._watch.join()

    def _keep_looking(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            # A connection that was closed meanwhile says so by a ValueError.
            with suppress(ValueError):
                _make(self._targets.look())

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

    def __init__(
        self,
        model: str | None = None,
        url: str | Sequence[str] = DEFAULT_URL,
        timeout: float = DEFAULT_TIMEOUT,
        tls: Tls | None = None,
    ) -> None:
        urls = checked(url)
        self.url = ",".join(urls)
        self.timeout = timeout
        self._name = model
        self._targets = Targets(urls, tls, _connector(triton_aio.InferenceServerClient, tls))
        self._watch: asyncio.Future[None] | None = None

    @property
    def targets(self) -> list[str]:
        """The servers that requests go to, as host:port."""
        return [target.name for target in self._targets.all]

    async def transcribe(self, samples: Samples | SharedSamples, log_probs: bool = False) -> Transcript:
        """As Recognizer.transcribe; samples may also lie in a region that `share` has told the server of."""
        arguments = request(self.model, samples, log_probs)
        answered = await _make_async(self._targets.recognition(self.model, arguments, self.timeout))
        return read_response(self.model, answered, log_probs)

    async def step_counters(self) -> server_statistics.Snapshot:
        """The server's counters of each step of this recognizer, every answer received so far included.

        Those of several servers are summed. Where others keep a server busy, so that the counters never rest, those
        after a second of waiting.
        """
        return server_statistics.in_all((await self._settled(self.model.steps)).values())

    async def counters(self) -> server_statistics.Snapshot:
        """As step_counters, with those of the recognizer as a whole before its steps'."""
        return server_statistics.in_all((await self.counters_by_target()).values())

    async def counters_by_target(self) -> dict[Joined, server_statistics.Snapshot]:
        """As counters, of each server that is there. One that was away meanwhile has another key."""
        return await self._settled((self.model.name, *self.model.steps))

    async def _settled(self, names: Sequence[str]) -> dict[Joined, server_statistics.Snapshot]:
        # Triton counts a batch only after it has sent the answers, so the last ones may still be missing.
        counters = await self._snapshots(names)
        for _ in range(_SETTLE_TRIES):
            await asyncio.sleep(_SETTLE_SECONDS)
            earlier, counters = counters, await self._snapshots(names)
            if counters == earlier:
                break
        return counters

    async def _snapshots(self, names: Sequence[str]) -> dict[Joined, server_statistics.Snapshot]:
        found: dict[Joined, server_statistics.Snapshot] = {}
        errors = []
        for target in self._asked:
            key = Joined(target.name, target.times_joined)
            try:
                found[key] = await _make_async(asked_of(target, server_statistics.snapshot(names)))
            except RecognizerError as error:
                errors.append(error)
        if not found:
            raise errors[0]
        return found

    @property
    def _asked(self) -> list[Target]:
        return self._targets.up or self._targets.all

    async def is_live(self) -> bool:
        """Whether a server still answers."""
        for target in self._asked:
            with suppress(RecognizerError):
                if await _make_async(asked_of(target, one_call("is_server_live", {}))):
                    return True
        return False

    async def server_version(self) -> str:
        """Name and version of the server, as it tells them; of each where several differ."""
        answers = [await self._ask(target, one_call("get_server_metadata", {})) for target in self._asked]
        return ", ".join(sorted({f"{metadata.name} {metadata.version}" for metadata in answers}))

    async def share(self, region: str, key: str, byte_size: int) -> None:
        """Have the server map POSIX shared memory `key` (with its leading slash) of this machine as `region`.

        Raises RecognizerError where it can't, as on another machine, or where there are several servers.
        """
        if len(self._targets.all) > 1:
            names = ", ".join(self.targets)
            raise RecognizerError(f"shared memory is for one server, on this machine, and there are {names}; name one")
        arguments = {"name": region, "key": key, "byte_size": byte_size}
        await self._ask(self._targets.all[0], one_call("register_system_shared_memory", arguments))

    async def unshare(self, region: str) -> None:
        """Have the server forget a region."""
        await self._ask(self._targets.all[0], one_call("unregister_system_shared_memory", {"name": region}))

    async def _ask(self, target: Target, calls: Calls[Answer]) -> Answer:
        return await _make_async(asked_of(target, calls))

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await _make_async(self._targets.look())

    async def __aenter__(self) -> AsyncRecognizer:
        # Connected here, not in __init__: a gRPC channel belongs to the event loop that is running when it is made.
        try:
            await _make_async(self._targets.connect(self._name))
        except BaseException:
            await _make_async(self._targets.close())
            raise
        self.model = self._targets.model
        if self._targets.may_change:
            self._watch = asyncio.ensure_future(self._keep_looking())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._watch:
                self._watch.cancel()
                with suppress(asyncio.CancelledError):
                    await self._watch
        finally:
            await _make_async(self._targets.close())


def _connector(client: Callable[..., Client], tls: Tls | None) -> Callable[[Address], Client]:
    """Makes Triton's client, of one kind or the other, for an address."""
    if tls is not None and not isinstance(tls, Tls):
        raise TypeError(
            f"tls is {tls}; give a nemo_triton.Tls: Tls() for the system's authorities, Tls(ca=FILE) for others"
        )
    # Read once: files may be gone when a server joins later.
    credentials = tls.credentials() if tls else None
    return lambda address: client(address.shown, creds=credentials, channel_args=address.channel_arguments)


def _make(calls: TargetCalls[Answer]) -> Answer:
    """Make the calls, one after the other."""
    try:
        step = next(calls)
        while True:
            try:
                answer = (
                    getattr(step.target.connection, step.method)(**step.arguments) if isinstance(step, Call) else step()
                )
            except InferenceServerException as error:
                step = calls.throw(error)
            else:
                step = calls.send(answer)
    except StopIteration as done:
        result: Answer = done.value
        return result
    finally:
        calls.close()


async def _make_async(calls: TargetCalls[Answer]) -> Answer:
    """As _make, with the clients of asyncio."""
    try:
        step = next(calls)
        while True:
            try:
                answer = await (_answer(step) if isinstance(step, Call) else asyncio.to_thread(step))
            except InferenceServerException as error:
                step = calls.throw(error)
            else:
                step = calls.send(answer)
    except StopIteration as done:
        result: Answer = done.value
        return result
    finally:
        calls.close()


async def _answer(call: Call) -> Any:
    connection = call.target.connection
    try:
        return await getattr(connection, call.method)(**call.arguments)
    except asyncio.CancelledError:
        # So it is also where the connection was given up, since its server hangs, and not the caller.
        if connection is call.target.connection:
            raise
        raise InferenceServerException("the server hangs", "StatusCode.CANCELLED") from None
