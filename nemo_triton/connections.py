"""Run calls to endpoints with Triton's blocking client or its asyncio client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any, TypeVar

from grpc.aio import UsageError
from tritonclient.utils import InferenceServerException

from nemo_triton.addresses import Address, is_loopback, split_url
from nemo_triton.calls import Answer
from nemo_triton.endpoint import Concurrently, EndpointCall, EndpointCalls, Pause, Step, Turn
from nemo_triton.endpoint_checks import CHECK_INTERVAL_SECONDS, CHECK_SECONDS
from nemo_triton.tls import Tls

Client = TypeVar("Client")

_MESSAGE_BYTES = 2**31 - 1
_MAX_THREADS = 16
_CLOSED = "the connection was closed"
_KEEPALIVE_SECONDS = 10


def connector(client: Callable[..., Client], tls: Tls | None) -> Callable[[Address], Client]:
    """Return a function that creates Triton's client for an address.

    Args:
        client: Triton's client class, blocking or asyncio.
        tls: Certificates; None connects without TLS.

    Raises:
        TypeError: `tls` is neither a Tls nor None.
    """
    if tls is not None and not isinstance(tls, Tls):
        raise TypeError(
            f"tls is {tls}; give a nemo_triton.Tls: Tls() for the system's CA certificates, Tls(ca=FILE) for others"
        )
    # Read the files now: they may be gone when a server joins later.
    credentials = tls.credentials() if tls else None
    return lambda address: client(address.host_port, creds=credentials, channel_args=_channel_arguments(address))


def run_calls(calls: EndpointCalls[Answer]) -> Answer:
    """Run the calls one after the other with blocking clients."""
    outcome = None
    with closing(calls):
        try:
            while True:
                outcome = _outcome(_resume(calls, outcome))
        except StopIteration as done:
            result: Answer = done.value
            return result


async def run_calls_async(calls: EndpointCalls[Answer]) -> Answer:
    """Run the calls one after the other with asyncio clients."""
    outcome = None
    with closing(calls):
        try:
            while True:
                outcome = await _outcome_async(_resume(calls, outcome))
        except StopIteration as done:
            result: Answer = done.value
            return result


def _resume(calls: EndpointCalls[Answer], outcome: Any) -> Step:
    """Pass a result, or an error of Triton's client, to the generator and return its next step."""
    return calls.throw(outcome) if isinstance(outcome, InferenceServerException) else calls.send(outcome)


def _outcome(step: Step) -> Any:
    if isinstance(step, Pause):
        return time.sleep(step.seconds)
    if isinstance(step, Turn):
        return wait([step.future], step.seconds)
    if isinstance(step, Concurrently):
        with ThreadPoolExecutor(min(len(step.calls), _MAX_THREADS)) as threads:
            return list(threads.map(run_calls, step.calls))
    if not isinstance(step, EndpointCall):
        return step()
    connection = step.endpoint.connection
    try:
        return getattr(connection, step.method)(**step.arguments)
    except InferenceServerException as error:
        return error
    except ValueError:
        # gRPC raises it if a check has just closed the connection to a server that hangs.
        if connection is step.endpoint.connection:
            raise
        return InferenceServerException(_CLOSED, "StatusCode.CANCELLED")


async def _outcome_async(step: Step) -> Any:
    if isinstance(step, Pause):
        return await asyncio.sleep(step.seconds)
    if isinstance(step, Turn):
        return await asyncio.wait([asyncio.wrap_future(step.future)], timeout=step.seconds)
    if isinstance(step, Concurrently):
        return await asyncio.gather(*map(run_calls_async, step.calls))
    if not isinstance(step, EndpointCall):
        return await asyncio.to_thread(step)
    connection = step.endpoint.connection
    try:
        return await getattr(connection, step.method)(**step.arguments)
    except InferenceServerException as error:
        return error
    except (asyncio.CancelledError, UsageError):
        # A closed connection to a hanging server also cancels the call. Only the caller's cancellation is raised.
        if connection is step.endpoint.connection or _is_cancelled_by_caller():
            raise
        return InferenceServerException(_CLOSED, "StatusCode.CANCELLED")


def _is_cancelled_by_caller() -> bool:
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)  # New in Python 3.11.
    return cancelling is not None and cancelling() > 0


def _channel_arguments(address: Address) -> list[tuple[str, str | int]]:
    """Options of the gRPC channel."""
    arguments: list[tuple[str, str | int]] = [
        ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        # By default gRPC waits up to two minutes between attempts to connect to a server that was down.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", round(CHECK_INTERVAL_SECONDS * 1000)),
        # gRPC waits 20 s for a server that accepts a connection and then says nothing.
        ("grpc.min_reconnect_backoff_ms", round(CHECK_SECONDS * 750)),
        # Finds a connection that is dead below HTTP/2. A check every two seconds keeps an idle connection free of
        # pings: Triton allows one in five minutes and closes the connection (too_many_pings) after three more.
        ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_SECONDS * 1000),
        # Otherwise gRPC reuses the hanging connection for the client that replaces it.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_loopback(split_url(address.host_port)[0]):
        # gRPC would send even requests to this machine through the proxy of http_proxy.
        arguments.append(("grpc.enable_http_proxy", 0))
    if address.host_port != address.url:
        arguments += [("grpc.default_authority", address.url), ("grpc.ssl_target_name_override", address.host)]
    return arguments
