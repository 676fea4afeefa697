"""Run calls to endpoints with Triton's blocking client or its asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

from tritonclient.utils import InferenceServerException

from nemo_triton.addresses import Address
from nemo_triton.calls import Answer
from nemo_triton.endpoints import CHECK_INTERVAL_SECONDS, EndpointCall, EndpointCalls, Step
from nemo_triton.tls import Tls

Client = TypeVar("Client")

_MESSAGE_BYTES = 2**31 - 1


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
    try:
        if isinstance(step, EndpointCall):
            return getattr(step.endpoint.connection, step.method)(**step.arguments)
        return step()
    except InferenceServerException as error:
        return error


async def _outcome_async(step: Step) -> Any:
    if not isinstance(step, EndpointCall):
        return await asyncio.to_thread(step)
    connection = step.endpoint.connection
    try:
        return await getattr(connection, step.method)(**step.arguments)
    except InferenceServerException as error:
        return error
    except asyncio.CancelledError:
        # A closed connection to a hanging server also cancels the call. Only the caller's cancellation is raised.
        if connection is step.endpoint.connection:
            raise
        return InferenceServerException("the server hangs", "StatusCode.CANCELLED")


def _channel_arguments(address: Address) -> list[tuple[str, str | int]]:
    """Options of the gRPC channel."""
    arguments: list[tuple[str, str | int]] = [
        ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        # By default gRPC waits up to two minutes between attempts to connect to a server that was down.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", round(CHECK_INTERVAL_SECONDS * 1000)),
        # Otherwise gRPC reuses the hanging connection for the client that replaces it.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if address.host_port != address.url:
        arguments += [("grpc.default_authority", address.url), ("grpc.ssl_target_name_override", address.host)]
    return arguments
