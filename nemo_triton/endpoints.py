"""The servers behind one client: which server gets a request, and what happens if a server fails.

A request goes to the server with the fewest of this client's requests in flight. Ties go to the server that was used
least recently. So servers of equal speed get equal shares, and a slower server gets fewer requests.

A host name with several IP addresses, such as a headless service of Kubernetes, counts as one server per address. They
are looked up here instead of by gRPC's round_robin policy. That policy looks them up again only after a connection
breaks, so it never finds servers that an autoscaler adds, and it does not report which server sent a response.

Calls are written as generators, as in calls.py.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, TypeAlias

from tritonclient.utils import InferenceServerException

from nemo_triton.addresses import Address, has_fixed_address, is_http_port, resolve, split_url
from nemo_triton.calls import Answer, Calls
from nemo_triton.errors import RecognizerError, ServerUnavailableError, one_line
from nemo_triton.protocol import ServerResponse, explain, explain_request
from nemo_triton.served_model import ServedModel, find_recognizer
from nemo_triton.tls import Tls, diagnosis

CHECK_INTERVAL_SECONDS = 2.0
"""Seconds between two checks of all endpoints."""

_CALL_SECONDS = 10.0
"""Deadline of calls other than recognitions, which a healthy server answers immediately."""
_CHECK_SECONDS = 5.0
_MAX_LATE_CHECKS = 2
"""An endpoint hangs if this many checks in a row miss their deadline."""
_HTTP_PORT = "answers as HTTP; give Triton's gRPC port, 8001 by default"
RETRYABLE = ("StatusCode.UNAVAILABLE", "StatusCode.NOT_FOUND", "StatusCode.CANCELLED")
"""The server is down or full, is shutting down (Triton unloads its models first), or hangs."""
MAX_ATTEMPTS_PER_ENDPOINT = 2
"""Attempts of one request per endpoint. The limit matters if the request itself crashes the server."""
_CLIENT_FAULTS = ("StatusCode.INVALID_ARGUMENT", "StatusCode.DEADLINE_EXCEEDED")

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Endpoint:
    """One server.

    Attributes:
        address: Address of the server.
        connection: Triton's client for the server.
        in_flight: Pending requests of this client.
        up: Whether the server gets requests.
        problem: Reason why the server is not used; None if it is.
        late_checks: Checks in a row that missed their deadline.
        times_joined: Number of times that the server came up. Its counters restart each time.
    """

    address: Address
    connection: Any
    in_flight: int = 0
    up: bool = False
    problem: str | None = None
    late_checks: int = 0
    times_joined: int = 0

    @property
    def name(self) -> str:
        """host:port that gRPC connects to."""
        return self.address.host_port


@dataclass(frozen=True)
class EndpointCall:
    """A call of a method of Triton's client on an endpoint's connection."""

    endpoint: Endpoint
    method: str
    arguments: dict[str, Any]


Step: TypeAlias = EndpointCall | Callable[[], Any]
"""A call to an endpoint, or a blocking function."""
EndpointCalls: TypeAlias = Generator[Step, Any, Answer]
"""A generator of steps that receives the result of each."""


@dataclass
class Endpoints:
    """The servers behind one client. Threads can share it.

    Attributes:
        urls: Address of each server as host:port, as the user wrote it.
        tls: Certificates; None connects without TLS.
        open: Function that creates Triton's client for an address.
        model: The recognizer that all servers serve. Set by `connect`.
    """

    urls: tuple[str, ...]
    tls: Tls | None
    open: Callable[[Address], Any]
    model: ServedModel = field(init=False)
    _endpoints: list[Endpoint] = field(default_factory=list, init=False)
    """Ordered by last use, least recent first."""
    _leaving: list[Endpoint] = field(default_factory=list, init=False)
    _described_by: str = field(default="", init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    @property
    def all(self) -> list[Endpoint]:
        """All endpoints, sorted by name."""
        with self._lock:
            return sorted(self._endpoints, key=lambda endpoint: endpoint.name)

    @property
    def up(self) -> list[Endpoint]:
        """The endpoints that get requests."""
        return [endpoint for endpoint in self.all if endpoint.up]

    @property
    def may_change(self) -> bool:
        """Whether endpoints need checks: there are several, or a host name can change its IP addresses."""
        return len(self._endpoints) > 1 or not all(map(has_fixed_address, self.urls))

    def connect(self, name: str | None) -> EndpointCalls[None]:
        """Find the recognizer on every endpoint.

        An endpoint that does not answer or does not serve the model is not used, and logged, unless it is the only one.

        Args:
            name: The recognizer's name; None finds the only recognizer served.

        Raises:
            ServerUnavailableError: No server answers.
            UnknownModelError: No server serves the model.
            RecognizerError: Servers have different exports of the model.
        """
        addresses: list[Address] = yield partial(resolve, self.urls)
        unresolved = {*self.urls} - {address.url for address in addresses}
        # Connect to unknown host names too: gRPC's error explains best what is wrong with them.
        addresses += [Address(url=url, host_port=url) for url in unresolved]
        # Shuffled, because many short-lived clients would otherwise all use the first server.
        self._endpoints = [
            Endpoint(address, self.open(address)) for address in random.sample(addresses, len(addresses))
        ]
        errors: dict[Endpoint, RecognizerError] = {}
        for endpoint in self._endpoints:
            try:
                known_name = self.model.name if self._described_by else name
                model = yield from endpoint_calls(endpoint, find_recognizer(known_name))
            except RecognizerError as error:
                errors[endpoint] = yield from diagnosed(endpoint, error, self.tls)
                continue
            if not self._described_by:
                self.model, self._described_by = model, endpoint.name
            difference = self._difference(endpoint, model)
            if difference:
                raise RecognizerError(f"{difference}; serve the same export on both, or give the URL of one")
            endpoint.up, endpoint.times_joined = True, 1
        if not self._described_by:
            raise connection_error(errors)
        for endpoint, problem in errors.items():
            self._leave_out(endpoint, _reason(problem).removeprefix(f"{endpoint.name}: "))

    def recognition(
        self, model: ServedModel, arguments: dict[str, Any], seconds: float
    ) -> EndpointCalls[ServerResponse]:
        """Send one request, and retry it on another endpoint if the server goes down.

        Args:
            model: The recognizer, for error messages.
            arguments: Arguments of Triton's `infer`.
            seconds: Deadline for all attempts together.

        Raises:
            RecognitionError: No attempt succeeded.
        """
        deadline = time.monotonic() + seconds
        attempts: Counter[Endpoint] = Counter()
        exhausted: set[Endpoint] = set()
        while True:
            endpoint = self._take(exhausted)
            attempts[endpoint] += 1
            try:
                remaining = max(deadline - time.monotonic(), 0.001)
                result = yield EndpointCall(endpoint, "infer", {**arguments, "client_timeout": remaining})
                return ServerResponse(result=result, endpoint=endpoint.name, attempts=attempts.total())
            except InferenceServerException as error:
                failure = error
            finally:
                with self._lock:
                    endpoint.in_flight -= 1
            may_retry = yield from self._may_retry(endpoint, failure)
            # A server that went down can get the request once more after it recovers. A server that refused can't.
            if endpoint.up or attempts[endpoint] == MAX_ATTEMPTS_PER_ENDPOINT:
                exhausted.add(endpoint)
            if not may_retry or time.monotonic() > deadline or not any(other not in exhausted for other in self.up):
                explained = explain_request(failure, model, endpoint.name, seconds)
                explained.attempts = attempts.total()
                raise explained from failure

    def check(self) -> EndpointCalls[None]:
        """Find endpoints that are new, that went down, and that recovered."""
        gone = self._update((yield partial(resolve, self.urls)))
        if len(self.all) > 1:
            for endpoint in self.all:
                yield from self._check(endpoint)
        with self._lock:
            self._endpoints = [endpoint for endpoint in self._endpoints if endpoint not in gone]
            self._leaving += gone
            idle = [endpoint for endpoint in self._leaving if not endpoint.in_flight]
            self._leaving = [endpoint for endpoint in self._leaving if endpoint not in idle]
        for endpoint in idle:
            yield EndpointCall(endpoint, "close", {})

    def close(self) -> EndpointCalls[None]:
        """Close all connections."""
        for endpoint in (*self._endpoints, *self._leaving):
            yield EndpointCall(endpoint, "close", {})

    def _take(self, exhausted: set[Endpoint]) -> Endpoint:
        with self._lock:
            # If no endpoint is up, try one anyway: it may have recovered since the last check.
            candidates = [
                endpoint for endpoint in self._endpoints if endpoint.up and endpoint not in exhausted
            ] or self._endpoints
            endpoint = min(candidates, key=lambda endpoint: endpoint.in_flight)
            self._endpoints.remove(endpoint)
            self._endpoints.append(endpoint)
            endpoint.in_flight += 1
            return endpoint

    def _may_retry(self, endpoint: Endpoint, failure: InferenceServerException) -> EndpointCalls[bool]:
        """Whether the endpoint caused the failure, so that another endpoint can succeed."""
        if self.all == [endpoint] or failure.status() in _CLIENT_FAULTS:
            return False
        if not endpoint.up:
            return True
        yield from self._check(endpoint)
        return not endpoint.up or failure.status() in RETRYABLE

    def _check(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check that an endpoint serves the same export, and use it or leave it out."""
        try:
            model = yield from endpoint_calls(endpoint, find_recognizer(self.model.name), _CHECK_SECONDS)
        except RecognizerError as error:
            if _is_late(error):
                endpoint.late_checks += 1
                if endpoint.up and endpoint.late_checks < _MAX_LATE_CHECKS:
                    return
            self._leave_out(endpoint, _reason(error))
            if _is_late(error) and endpoint.in_flight:
                yield from self._reopen(endpoint)
            return
        endpoint.late_checks = 0
        difference = self._difference(endpoint, model)
        if difference:
            self._leave_out(endpoint, difference)
        elif not endpoint.up:
            event = "is new and gets requests" if endpoint.problem is None else "is back and gets requests again"
            endpoint.up, endpoint.problem = True, None
            endpoint.times_joined += 1
            _log.info("%s: %s", endpoint.name, event)

    def _reopen(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Cancel the pending requests of a hanging endpoint, so that they are retried on another."""
        hanging = Endpoint(endpoint.address, endpoint.connection)
        endpoint.connection = self.open(endpoint.address)
        yield EndpointCall(hanging, "close", {})

    def _leave_out(self, endpoint: Endpoint, problem: str) -> None:
        with self._lock:
            earlier, endpoint.problem, endpoint.up = endpoint.problem, problem, False
        if earlier is None:
            _log.warning("%s: not used until it recovers; other servers get its requests (%s)", endpoint.name, problem)

    def _difference(self, endpoint: Endpoint, model: ServedModel) -> str | None:
        if (model.parity_id, model.steps) == (self.model.parity_id, self.model.steps):
            return None
        return (
            f"{model.name} at {endpoint.name} is another export than at {self._described_by} "
            f"(parity_id {model.parity_id} and {self.model.parity_id})"
        )

    def _update(self, addresses: Sequence[Address]) -> list[Endpoint]:
        """Connect to new addresses, and return the endpoints whose address is gone."""
        known = {endpoint.address for endpoint in self.all}
        fresh = [Endpoint(address, self.open(address)) for address in addresses if address not in known]
        resolved = {address.url for address in addresses}
        with self._lock:
            self._endpoints += fresh
            # A host name that can't be looked up at the moment keeps its servers.
            return [
                endpoint
                for endpoint in self._endpoints
                if endpoint.address not in addresses and endpoint.address.url in resolved
            ]


def diagnosed(endpoint: Endpoint, error: RecognizerError, tls: Tls | None) -> EndpointCalls[RecognizerError]:
    """Replace the error of an endpoint that can't be reached by one that says why, if the reason can be found."""
    if not isinstance(error, ServerUnavailableError):
        return error
    host, port = split_url(endpoint.name)
    if (yield partial(is_http_port, host, port)):
        return ServerUnavailableError(f"{endpoint.name} {_HTTP_PORT}")
    reason = yield partial(diagnosis, host, port, endpoint.address.host, tls)
    return ServerUnavailableError(f"{endpoint.name}: {reason}") if reason else error


def endpoint_calls(endpoint: Endpoint, calls: Calls[Answer], seconds: float = _CALL_SECONDS) -> EndpointCalls[Answer]:
    """Make calls to one server.

    Args:
        endpoint: The server.
        calls: The calls.
        seconds: Deadline of each call.

    Raises:
        RecognizerError: The server does not answer, or refuses a call.
    """
    answer = None
    try:
        while True:
            method, arguments = calls.send(answer)
            answer = yield EndpointCall(endpoint, method, {**arguments, "client_timeout": seconds})
    except StopIteration as done:
        result: Answer = done.value
        return result
    except InferenceServerException as error:
        raise explain(error, endpoint.name, seconds) from error


def _is_late(error: RecognizerError) -> bool:
    cause = error.__cause__
    return isinstance(cause, InferenceServerException) and cause.status() == "StatusCode.DEADLINE_EXCEEDED"


def _reason(error: RecognizerError) -> str:
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
