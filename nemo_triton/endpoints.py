"""The servers behind one client: which of them gets a request, and what happens to it if a server fails.

A request goes to the server with the fewest of this client's requests in flight; among equals, to the least recently
asked one. So servers of equal speed get equal shares, and a slower one gets less.

A host name with several addresses, as a headless service of Kubernetes has, is a server at each of them. They are
looked up here and not by gRPC's own round_robin policy: that looks again only after a connection broke, and so never
finds the servers that an autoscaler adds; and it does not tell which server answered.

All of this are generators of calls to the endpoints' connections, as in calls.py.
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

from nemo_triton.addresses import Address, has_fixed_address, resolve, split_url
from nemo_triton.calls import Answer, Calls
from nemo_triton.errors import RecognizerError, ServerUnavailableError, one_line
from nemo_triton.protocol import ServerResponse, explain, explain_request
from nemo_triton.served_model import ServedModel, find_recognizer
from nemo_triton.tls import Tls, diagnosis

CHECK_INTERVAL_SECONDS = 2.0
"""Between two checks of which endpoints there are and which of them answer."""

_QUESTION_SECONDS = 10.0
"""Questions about the server are answered at once or not at all."""
_CHECK_SECONDS = 5.0
_MAX_LATE_CHECKS = 2
"""An endpoint that was late with its answer this many times in a row is taken to hang."""
RETRYABLE = ("StatusCode.UNAVAILABLE", "StatusCode.NOT_FOUND", "StatusCode.CANCELLED")
"""No server, or one that has no room, is shutting down (Triton unloads its models first) or was found to hang."""
MAX_ATTEMPTS_PER_ENDPOINT = 2
"""Of the same request, which might be what ends the server."""
_CLIENT_FAULTS = ("StatusCode.INVALID_ARGUMENT", "StatusCode.DEADLINE_EXCEEDED")

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Endpoint:
    """One server.

    Attributes:
        address: Where it listens.
        connection: Triton's client for it.
        in_flight: Requests of this client that it has not answered.
        up: Whether it gets requests.
        problem: Why it is left out; None if it is not.
        late_checks: How many checks in a row it was late to answer.
        times_joined: How many times it came up; its counters begin again each time.
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
    """A method of Triton's client to call on an endpoint's connection."""

    endpoint: Endpoint
    method: str
    arguments: dict[str, Any]


Step: TypeAlias = EndpointCall | Callable[[], Any]
"""A call to an endpoint, or a function that blocks."""
EndpointCalls: TypeAlias = Generator[Step, Any, Answer]
"""Steps one after the other; the result of each is sent back."""


@dataclass
class Endpoints:
    """The servers behind one client. Threads may share it.

    Attributes:
        urls: host:port of each, as the user gave it.
        tls: How to connect to them; None is without TLS.
        open: Makes Triton's client for an address.
        model: What all of them serve; known once connected.
    """

    urls: tuple[str, ...]
    tls: Tls | None
    open: Callable[[Address], Any]
    model: ServedModel = field(init=False)
    _endpoints: list[Endpoint] = field(default_factory=list, init=False)
    """The least recently asked first."""
    _leaving: list[Endpoint] = field(default_factory=list, init=False)
    _described_by: str = field(default="", init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    @property
    def all(self) -> list[Endpoint]:
        """In the order of their names."""
        with self._lock:
            return sorted(self._endpoints, key=lambda endpoint: endpoint.name)

    @property
    def up(self) -> list[Endpoint]:
        """Those that get requests."""
        return [endpoint for endpoint in self.all if endpoint.up]

    @property
    def may_change(self) -> bool:
        """Whether there is anything to check: several endpoints, or a name whose addresses may come and go."""
        return len(self._endpoints) > 1 or not all(map(has_fixed_address, self.urls))

    def connect(self, name: str | None) -> EndpointCalls[None]:
        """Find the recognizer `name`, or the only one there is, on every endpoint.

        An endpoint that does not answer or does not have it is left out, with a line in the log, if there is another.

        Raises:
            ServerUnavailableError: No server answers.
            UnknownModelError: No server has the model.
            RecognizerError: Servers have different exports of it.
        """
        addresses: list[Address] = yield partial(resolve, self.urls)
        unresolved = {*self.urls} - {address.url for address in addresses}
        # gRPC says best what is wrong with a name.
        addresses += [Address(url=url, host_port=url) for url in unresolved]
        # Many clients that ask once or twice would all ask the first one.
        self._endpoints = [
            Endpoint(address, self.open(address)) for address in random.sample(addresses, len(addresses))
        ]
        errors: dict[Endpoint, RecognizerError] = {}
        for endpoint in self._endpoints:
            try:
                known_name = self.model.name if self._described_by else name
                model = yield from ask_endpoint(endpoint, find_recognizer(known_name))
            except RecognizerError as error:
                errors[endpoint] = yield from self._with_diagnosis(endpoint, error)
                continue
            if not self._described_by:
                self.model, self._described_by = model, endpoint.name
            difference = self._difference(endpoint, model)
            if difference:
                raise RecognizerError(f"{difference}; serve the same export on both, or ask one of them")
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
            model: Named in errors.
            arguments: Of Triton's `infer`.
            seconds: For all attempts together.

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
            # One that went away may be asked once more when it is back, one that refused may not.
            if endpoint.up or attempts[endpoint] == MAX_ATTEMPTS_PER_ENDPOINT:
                exhausted.add(endpoint)
            if not may_retry or time.monotonic() > deadline or not any(other not in exhausted for other in self.up):
                explained = explain_request(failure, model, endpoint.name, seconds)
                explained.attempts = attempts.total()
                raise explained from failure

    def check(self) -> EndpointCalls[None]:
        """Find endpoints that are new, that went away, and that are back."""
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
        """End all connections."""
        for endpoint in (*self._endpoints, *self._leaving):
            yield EndpointCall(endpoint, "close", {})

    def _take(self, exhausted: set[Endpoint]) -> Endpoint:
        with self._lock:
            # Where none is known to answer, one may have come back since the last check.
            candidates = [
                endpoint for endpoint in self._endpoints if endpoint.up and endpoint not in exhausted
            ] or self._endpoints
            endpoint = min(candidates, key=lambda endpoint: endpoint.in_flight)
            self._endpoints.remove(endpoint)
            self._endpoints.append(endpoint)
            endpoint.in_flight += 1
            return endpoint

    def _may_retry(self, endpoint: Endpoint, failure: InferenceServerException) -> EndpointCalls[bool]:
        """Whether the failure is the endpoint's, so that another may do better."""
        if self.all == [endpoint] or failure.status() in _CLIENT_FAULTS:
            return False
        if not endpoint.up:
            return True
        yield from self._check(endpoint)
        return not endpoint.up or failure.status() in RETRYABLE

    def _check(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check whether an endpoint serves what it should, and take it in or leave it out."""
        try:
            model = yield from ask_endpoint(endpoint, find_recognizer(self.model.name), _CHECK_SECONDS)
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
            event = "is new and asked" if endpoint.problem is None else "is back and asked again"
            endpoint.up, endpoint.problem = True, None
            endpoint.times_joined += 1
            _log.info("%s: %s", endpoint.name, event)

    def _reopen(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """End the requests in flight at an endpoint that hangs, so that they are retried on another."""
        hanging = Endpoint(endpoint.address, endpoint.connection)
        endpoint.connection = self.open(endpoint.address)
        yield EndpointCall(hanging, "close", {})

    def _leave_out(self, endpoint: Endpoint, problem: str) -> None:
        with self._lock:
            earlier, endpoint.problem, endpoint.up = endpoint.problem, problem, False
        if earlier is None:
            _log.warning("%s: left out until it is back, others are asked (%s)", endpoint.name, problem)

    def _difference(self, endpoint: Endpoint, model: ServedModel) -> str | None:
        if (model.parity_id, model.steps) == (self.model.parity_id, self.model.steps):
            return None
        return (
            f"{model.name} at {endpoint.name} is another export than at {self._described_by} "
            f"(parity_id {model.parity_id} and {self.model.parity_id})"
        )

    def _update(self, addresses: Sequence[Address]) -> list[Endpoint]:
        """Connect to what is new, to be checked; returns the endpoints that are gone."""
        known = {endpoint.address for endpoint in self.all}
        fresh = [Endpoint(address, self.open(address)) for address in addresses if address not in known]
        resolved = {address.url for address in addresses}
        with self._lock:
            self._endpoints += fresh
            # A name that can't be looked up just now has lost no server.
            return [
                endpoint
                for endpoint in self._endpoints
                if endpoint.address not in addresses and endpoint.address.url in resolved
            ]

    def _with_diagnosis(self, endpoint: Endpoint, error: RecognizerError) -> EndpointCalls[RecognizerError]:
        if not isinstance(error, ServerUnavailableError):
            return error
        host, port = split_url(endpoint.name)
        reason = yield partial(diagnosis, host, port, endpoint.address.host, self.tls)
        return ServerUnavailableError(f"{endpoint.name}: {reason}") if reason else error


def ask_endpoint(endpoint: Endpoint, calls: Calls[Answer], seconds: float = _QUESTION_SECONDS) -> EndpointCalls[Answer]:
    """Put questions to one server, each within `seconds`.

    Raises:
        RecognizerError: It does not answer, or refuses.
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
    """The error to raise if no endpoint can be used: what a server says rather than that there is none."""
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
