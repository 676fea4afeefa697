"""Connections to one recognizer: Recognizer for threads, AsyncRecognizer for asyncio.

From a file to its text: audio.load_audio reads the samples, protocol.request builds the request,
Endpoints.recognition (endpoints.py) chooses a server and retries, connections.run_calls sends, and
protocol.read_response builds the Transcript.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from nemo_triton.addresses import DEFAULT_URL, Address, parse_urls
from nemo_triton.audio import Samples, seconds
from nemo_triton.calls import Answer, Calls
from nemo_triton.connections import connector, run_calls, run_calls_async
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.endpoint import Endpoint, endpoint_calls
from nemo_triton.endpoint_checks import CHECK_INTERVAL_SECONDS
from nemo_triton.endpoint_errors import connection_error, diagnosed
from nemo_triton.endpoints import Endpoints
from nemo_triton.errors import RecognizerError, ServerUnavailableError
from nemo_triton.protocol import SharedSamples, read_response, request
from nemo_triton.served_model import ServedModel, find_recognizers
from nemo_triton.tls import Tls
from nemo_triton.transcript import Transcript

_log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 300.0
"""Seconds per recognition, including retries and time in the server's queue."""


def list_recognizers(url: str | Sequence[str] = DEFAULT_URL, tls: Tls | None = None) -> list[str]:
    """List the recognizers that are ready on a server.

    Args:
        url: Address of the server's gRPC endpoint as host:port. Of several, separated by commas or as a sequence, the
            first that answers is used.
        tls: Certificates for a server with TLS; None connects without TLS.

    Returns:
        The model names, sorted.

    Raises:
        ServerUnavailableError: No server answers.
        RecognizerError: `url` is not host:port.
        TypeError: `tls` is not a Tls.

    Example:
        >>> list_recognizers("localhost:8001")
        ['coffee_ctc', 'coffee_rnnt']
    """
    errors: dict[Endpoint, RecognizerError] = {}
    connect = connector(triton.InferenceServerClient, tls)
    for address in (Address(url=each, host_port=each) for each in parse_urls(url)):
        endpoint = Endpoint(address, connect(address))
        try:
            return run_calls(endpoint_calls(endpoint, find_recognizers()))
        except ServerUnavailableError as error:
            errors[endpoint] = run_calls(diagnosed(endpoint, error, tls))
        finally:
            endpoint.connection.close()
    raise connection_error(errors)


class Recognizer:
    """A connection to one recognizer. Threads can share it.

    Creating a Recognizer connects it; `close` or the end of a `with` block closes it. If a server goes down or
    its answers fail, its requests are retried on another server. It is used again once it recovers. The logger
    `nemo_triton.endpoints` gets one message for each event.

    Attributes:
        model: The recognizer as the server describes it.
        url: Addresses of the servers as host:port, separated by commas.
        timeout: Seconds per recognition.
        retry_full_queue: Whether requests that a full queue refuses are retried until `timeout`.

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
        *,
        retry_full_queue: bool = True,
    ) -> None:
        """Connect.

        Args:
            model: The recognizer's name; None takes the only one that the server serves.
            url: Address of the server's gRPC endpoint as host:port. Several servers, separated by commas or as a
                sequence, share the requests. So do all IP addresses of a host name.
            timeout: Seconds per recognition, including retries and time in the server's queue.
            tls: Certificates for servers with TLS; None connects without TLS.
            retry_full_queue: Retry requests that a full queue refuses, once a server has room, until `timeout`. False
                raises QueueFullError immediately.

        Raises:
            ServerUnavailableError: No server answers.
            UnknownModelError: The model is not served, not ready or not a recognizer.
            RecognizerError: `url` is not host:port, or servers have different exports of the model.
            TypeError: `tls` is not a Tls.
        """
        urls = parse_urls(url)
        self.url = ",".join(urls)
        self.timeout = timeout
        self.retry_full_queue = retry_full_queue
        self._endpoints = Endpoints(urls, tls, connector(triton.InferenceServerClient, tls))
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._keep_checking, daemon=True)
        try:
            run_calls(self._endpoints.connect(model))
        except BaseException:
            self.close()
            raise
        self.model = self._endpoints.model
        self._watch.start()

    def transcribe(self, samples: Samples, log_probs: bool = False) -> Transcript:
        """Transcribe one recording.

        Args:
            samples: int16 [T], or float32 [T] with a full scale of 1.0; 16 kHz, mono; T may be 0. `load_audio` returns
                them.
            log_probs: Also return the log-probs of every encoder frame (CTC models only).

        Returns:
            The text, its tokens and their times.

        Raises:
            TypeError: The samples are not an array of int16 or float32.
            ValueError: The samples have another shape.
            DeadlineExceededError: There was no response within `timeout`.
            QueueFullError: The queues of all servers were full.
            UnavailableError: The server was down or hung.
            RecognitionError: The request failed for another reason.
        """
        arguments = request(self.model, samples, log_probs)
        response = run_calls(
            self._endpoints.recognition(
                self.model,
                arguments,
                seconds=self.timeout,
                audio_seconds=seconds(samples),
                retry_full_queue=self.retry_full_queue,
            )
        )
        return read_response(self.model, response, log_probs)

    def close(self) -> None:
        """Close the connection."""
        self._closed.set()
        run_calls(self._endpoints.close())
        if self._watch.is_alive():
            self._watch.join()

    def _keep_checking(self) -> None:
        while not self._closed.wait(CHECK_INTERVAL_SECONDS):
            try:
                run_calls(self._endpoints.check())
            except Exception:
                # A connection raises ValueError if it was closed meanwhile. Anything else must not end the checks.
                if not self._closed.is_set():
                    _log.exception("a check of the servers failed")

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncRecognizer:
    """A connection to one recognizer for asyncio. Tasks can share it.

    It connects at the start of an `async with` block and closes at its end. Failed requests are retried as in
    Recognizer.

    Attributes:
        model: The recognizer as the server describes it. Set once connected.
        url: Addresses of the servers as host:port, separated by commas.
        timeout: Seconds per recognition.
        retry_full_queue: Whether requests that a full queue refuses are retried until `timeout`.

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
        *,
        retry_full_queue: bool = True,
    ) -> None:
        """Store the settings. `async with` connects, and raises the same errors as Recognizer.

        Args:
            model: The recognizer's name; None takes the only one that the server serves.
            url: Address of the server's gRPC endpoint as host:port. Several servers, separated by commas or as a
                sequence, share the requests. So do all IP addresses of a host name.
            timeout: Seconds per recognition, including retries and time in the server's queue.
            tls: Certificates for servers with TLS; None connects without TLS.
            retry_full_queue: Retry requests that a full queue refuses, once a server has room, until `timeout`. False
                raises QueueFullError immediately.

        Raises:
            RecognizerError: `url` is not host:port.
            TypeError: `tls` is not a Tls.
        """
        urls = parse_urls(url)
        self.url = ",".join(urls)
        self.timeout = timeout
        self.retry_full_queue = retry_full_queue
        self._name = model
        self._endpoints = Endpoints(urls, tls, connector(triton_aio.InferenceServerClient, tls))
        self._watch: asyncio.Future[None] | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """The servers behind this connection, sorted by name. Servers that are `usable` get requests."""
        return self._endpoints.pool.all

    async def call(self, endpoint: Endpoint, calls: Calls[Answer]) -> Answer:
        """Make calls other than recognitions to one server.

        Args:
            endpoint: Server of the call, one of `endpoints`.
            calls: A generator that yields methods of Triton's client with their arguments and receives the results.

        Returns:
            The return value of `calls`.

        Raises:
            RecognizerError: The server does not answer, or refuses a call.
        """
        return await run_calls_async(endpoint_calls(endpoint, calls))

    async def transcribe(self, samples: Samples | SharedSamples, log_probs: bool = False) -> Transcript:
        """Transcribe one recording.

        Args:
            samples: int16 [T], or float32 [T] with a full scale of 1.0; 16 kHz, mono; T may be 0. `load_audio` returns
                them. SharedSamples if they are in a shared memory region that is registered with the server.
            log_probs: Also return the log-probs of every encoder frame (CTC models only).

        Returns:
            The text, its tokens and their times.

        Raises:
            TypeError: The samples are not an array of int16 or float32.
            ValueError: The samples have another shape.
            DeadlineExceededError: There was no response within `timeout`.
            QueueFullError: The queues of all servers were full.
            UnavailableError: The server was down or hung.
            RecognitionError: The request failed for another reason.
        """
        arguments = request(self.model, samples, log_probs)
        count = samples.count if isinstance(samples, SharedSamples) else len(samples)
        response = await run_calls_async(
            self._endpoints.recognition(
                self.model,
                arguments,
                seconds=self.timeout,
                audio_seconds=count / SAMPLE_RATE,
                retry_full_queue=self.retry_full_queue,
            )
        )
        return read_response(self.model, response, log_probs)

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            try:
                await run_calls_async(self._endpoints.check())
            except Exception:
                _log.exception("a check of the servers failed")

    async def __aenter__(self) -> AsyncRecognizer:
        # A gRPC channel belongs to the event loop that runs when it is created, so __init__ can't connect.
        try:
            await run_calls_async(self._endpoints.connect(self._name))
        except BaseException:
            await run_calls_async(self._endpoints.close())
            raise
        self.model = self._endpoints.model
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
