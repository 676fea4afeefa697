"""Errors of endpoints that can't be used, for people."""

from __future__ import annotations

from functools import partial

from tritonclient.utils import InferenceServerException

from nemo_triton.addresses import is_http_port, split_url
from nemo_triton.endpoint import Endpoint, EndpointCalls
from nemo_triton.errors import RecognizerError, ServerUnavailableError, one_line
from nemo_triton.proxies import proxy_problem
from nemo_triton.tls import Tls, diagnosis

_HTTP_PORT = "answers as HTTP; give Triton's gRPC port, 8001 by default"


def diagnosed(endpoint: Endpoint, error: RecognizerError, tls: Tls | None) -> EndpointCalls[RecognizerError]:
    """Replace the error of an endpoint that can't be reached by one that says why, if the reason can be found."""
    if not isinstance(error, ServerUnavailableError):
        return error
    host, port = split_url(endpoint.name)
    problem = yield partial(proxy_problem, reason_of(error), host)
    if problem:
        return ServerUnavailableError(f"{endpoint.name}: {problem}")
    if (yield partial(is_http_port, host, port)):
        return ServerUnavailableError(f"{endpoint.name} {_HTTP_PORT}")
    reason = yield partial(diagnosis, host, port, endpoint.address.host, tls)
    return ServerUnavailableError(f"{endpoint.name}: {reason}") if reason else error


def is_late(error: RecognizerError) -> bool:
    """Whether a call missed its deadline."""
    cause = error.__cause__
    return isinstance(cause, InferenceServerException) and cause.status() == "StatusCode.DEADLINE_EXCEEDED"


def reason_of(error: RecognizerError) -> str:
    """The server's message, or else the error's own, in one line."""
    cause = error.__cause__
    return one_line(cause.message()) if isinstance(cause, InferenceServerException) else str(error)


def connection_error(errors: dict[Endpoint, RecognizerError]) -> RecognizerError:
    """Return the error to raise if no endpoint can be used. A server's error goes before a missing server."""
    endpoints = sorted(
        errors, key=lambda endpoint: (isinstance(errors[endpoint], ServerUnavailableError), endpoint.name)
    )
    error = errors[endpoints[0]]
    answering = [endpoint for endpoint in endpoints if not isinstance(errors[endpoint], ServerUnavailableError)]
    reason = str(error)
    if len({str(errors[endpoint]) for endpoint in answering}) > 1:
        reason = "; ".join(f"{endpoint.name}: {errors[endpoint]}" for endpoint in answering)
    absent = ", ".join(endpoint.name for endpoint in endpoints[1:] if endpoint not in answering)
    return type(error)(f"{reason}; {absent} can't be reached" if absent else reason)
