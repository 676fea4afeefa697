"""Connections to one recognizer: Recognizer for threads, AsyncRecognizer for asyncio.

One file becomes text: audio.load_audio reads samples, protocol.request makes a request of them, Endpoints.recognition
(endpoints.py) chooses a server and retries, connections.run_calls sends, protocol.read_response makes a Transcript.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from nemo_triton.addresses import DEFAULT_URL, Address, parse_urls
from nemo_triton.audio import Samples
from nemo_triton.calls import Answer, Calls
from nemo_triton.connections import connector, run_calls, run_calls_async
from nemo_triton.endpoints import CHECK_INTERVAL_SECONDS, Endpoint, Endpoints, ask_endpoint, connection_error
from nemo_triton.errors import RecognizerError, ServerUnavailableError
from nemo_triton.protocol import SharedSamples, read_response, request
from nemo_triton.served_model import ServedModel, find_recognizers
from nemo_triton.tls import Tls
from nemo_triton.transcript import Transcript

DEFAULT_TIMEOUT = 300.0
"""Seconds one recognition may take, the wait in the server's queue included."""


def list_recognizers(url: str | Sequence[str] = DEFAULT_URL, tls: Tls | None = None) -> list[str]:
    """List the recognizers that a server has ready.

    Args:
        url: host:port of the server's gRPC endpoint. Of several, separated by commas or as a sequence, the first one
            that answers is asked.
        tls: For a server with TLS; None connects without it.

    Returns:
        Their model names, sorted.

    Raises:
        ServerUnavailableError: No server answers.
        RecognizerError: `url` is not host:port.
        TypeError: `tls` is no Tls.

    Example:
        >>> list_recognizers("localhost:8001")
        ['coffee_ctc', 'coffee_rnnt']
    """
    errors: dict[Endpoint, RecognizerError] = {}
    connect = connector(triton.InferenceServerClient, tls)
    for address in (Address(url=each, host_port=each) for each in parse_urls(url)):
        endpoint = Endpoint(address, connect(address))
        try:
            return run_calls(ask_endpoint(endpoint, find_recognizers()))
        except ServerUnavailableError as error:
            errors[endpoint] = error
        finally:
            endpoint.connection.close()
    raise connection_error(errors)


class Recognizer:
    """A connection to one recognizer, which threads may share.

    It connects when it is created and is closed by `close` or at the end of a `with` block. If a server goes down, its
    pending requests are retried on another, and it is used again once it recovers; the logger
    `nemo_triton.endpoints` gets a warning and an info of it.

    Attributes:
        model: What the server tells of the recognizer.
        url: host:port of the servers, separated by commas.
        timeout: Seconds one recognition may take.

    Example:
        >>> with Recognizer("stt_en_citrinet_512") as recognizer:
        ...     print(recognizer.transcribe(load_audio("order.wav")).text)
        two large coffees please
    """

    model: ServedModel

    def __init__(
        self,
        model: str | None = None,
        url: str | Sequence[str] = DEFAULT_URL,
        timeout: float = DEFAULT_TIMEOUT,
        tls: Tls | None = None,
    ) -> None:
        """Connect.

        Args:
            model: The recognizer's name; None takes the only one that the server has.
            url: host:port of the server's gRPC endpoint. Several, separated by commas or as a sequence, share the
                requests, and so do all addresses of a host name.
            timeout: Seconds one recognition may take, retries and the wait in the server's queue included.
            tls: For servers with TLS; None connects without it.

        Raises:
            ServerUnavailableError: No server answers.
            UnknownModelError: The model is not served, not ready or no recognizer.
            RecognizerError: `url` is not host:port, or servers have different exports of the model.
            TypeError: `tls` is no Tls.
        """
        urls = parse_urls(url)
        self.url = ",".join(urls)
        self.timeout = timeout
        self._endpoints = Endpoints(urls, tls, connector(triton.InferenceServerClient, tls))
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._keep_checking, daemon=True)
        try:
            run_calls(self._endpoints.connect(model))
        except BaseException:
            self.close()
            raise
        self.model = self._endpoints.model
        if self._endpoints.may_change:
            self._watch.start()

    def transcribe(self, samples: Samples, log_probs: bool = False) -> Transcript:
        """Recognize the speech in one utterance.

        Args:
            samples: int16 [T], 16 kHz, mono; T may be 0. `load_audio` reads any file as such.
            log_probs: Also return the log-probs of every encoder frame, of a CTC model.

        Returns:
            The text, its tokens and their times.

        Raises:
            TypeError: The samples are no int16 array.
            ValueError: The samples have another shape.
            DeadlineExceededError: There was no answer within `timeout`.
            UnavailableError: The server was down, or had no room for the request.
            RecognitionError: The request failed in another way.
        """
        arguments = request(self.model, samples, log_probs)
        response = run_calls(self._endpoints.recognition(self.model, arguments, self.timeout))
        return read_response(self.model, response, log_probs)

    def close(self) -> None:
        """End the connection."""
        self._closed.set()
        run_calls(self._endpoints.close())
        if self._watch.is_alive():
            self._watch.join()

    def _keep_checking(self) -> None:
        while not self._closed.wait(CHECK_INTERVAL_SECONDS):
            # A connection that was closed meanwhile raises ValueError.
            with suppress(ValueError):
                run_calls(self._endpoints.check())

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncRecognizer:
    """A connection to one recognizer for asyncio, which many tasks may share.

    It connects at the beginning of an `async with` block and closes at its end. Retries are those of Recognizer.

    Attributes:
        model: What the server tells of the recognizer; known once connected.
        url: host:port of the servers, separated by commas.
        timeout: Seconds one recognition may take.

    Example:
        >>> async with AsyncRecognizer("stt_en_citrinet_512") as recognizer:
        ...     transcripts = await asyncio.gather(*map(recognizer.transcribe, recordings))
    """

    model: ServedModel

    def __init__(
        self,
        model: str | None = None,
        url: str | Sequence[str] = DEFAULT_URL,
        timeout: float = DEFAULT_TIMEOUT,
        tls: Tls | None = None,
    ) -> None:
        """Take the settings; `async with` connects and raises what Recognizer does if it can't.

        Args:
            model: The recognizer's name; None takes the only one that the server has.
            url: host:port of the server's gRPC endpoint. Several, separated by commas or as a sequence, share the
                requests, and so do all addresses of a host name.
            timeout: Seconds one recognition may take, retries and the wait in the server's queue included.
            tls: For servers with TLS; None connects without it.

        Raises:
            RecognizerError: `url` is not host:port.
            TypeError: `tls` is no Tls.
        """
        urls = parse_urls(url)
        self.url = ",".join(urls)
        self.timeout = timeout
        self._name = model
        self._endpoints = Endpoints(urls, tls, connector(triton_aio.InferenceServerClient, tls))
        self._watch: asyncio.Future[None] | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """The servers behind this connection, in the order of their names; those that are `up` get requests."""
        return self._endpoints.all

    async def ask(self, endpoint: Endpoint, calls: Calls[Answer]) -> Answer:
        """Put questions other than recognitions to one of the endpoints.

        Args:
            endpoint: One of `endpoints`.
            calls: Yields methods of Triton's client with their arguments and gets the answers.

        Returns:
            What `calls` returns.

        Raises:
            RecognizerError: The server does not answer, or refuses.
        """
        return await run_calls_async(ask_endpoint(endpoint, calls))

    async def transcribe(self, samples: Samples | SharedSamples, log_probs: bool = False) -> Transcript:
        """Recognize the speech in one utterance.

        Args:
            samples: int16 [T], 16 kHz, mono; T may be 0. `load_audio` reads any file as such. Or where they lie in a
                region of shared memory that the server has registered.
            log_probs: Also return the log-probs of every encoder frame, of a CTC model.

        Returns:
            The text, its tokens and their times.

        Raises:
            TypeError: The samples are no int16 array.
            ValueError: The samples have another shape.
            DeadlineExceededError: There was no answer within `timeout`.
            UnavailableError: The server was down, or had no room for the request.
            RecognitionError: The request failed in another way.
        """
        arguments = request(self.model, samples, log_probs)
        response = await run_calls_async(self._endpoints.recognition(self.model, arguments, self.timeout))
        return read_response(self.model, response, log_probs)

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            await run_calls_async(self._endpoints.check())

    async def __aenter__(self) -> AsyncRecognizer:
        # Connected here, not in __init__: a gRPC channel belongs to the event loop that is running when it is made.
        try:
            await run_calls_async(self._endpoints.connect(self._name))
        except BaseException:
            await run_calls_async(self._endpoints.close())
            raise
        self.model = self._endpoints.model
        if self._endpoints.may_change:
            self._watch = asyncio.ensure_future(self._keep_checking())
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
            await run_calls_async(self._endpoints.close())
