"""Requests to the servers behind one client: connect, send, and retry on another server if one fails.

endpoint_pool.py chooses the server of a request, and endpoint_checks.py finds out which servers are up.

A host name with several IP addresses, such as a headless service of Kubernetes, counts as one server per address. They
are looked up here instead of by gRPC's round_robin policy. That policy looks them up again only after a connection
breaks, so it never finds servers that an autoscaler adds, and it does not report which server sent a response.

Calls are written as generators, as in calls.py.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tritonclient.utils import InferenceServerException

from nemo_triton.addresses import Address, resolve
from nemo_triton.endpoint import Endpoint, EndpointCall, EndpointCalls, Pending, Turn, endpoint_calls
from nemo_triton.endpoint_checks import EndpointChecks, Export
from nemo_triton.endpoint_errors import connection_error, diagnosed, reason_of
from nemo_triton.endpoint_pool import Attempts, EndpointPool
from nemo_triton.errors import RecognitionError, RecognizerError, one_line
from nemo_triton.faults import NO_ROOM, Fault, fault_of
from nemo_triton.protocol import ServerResponse, explain_request
from nemo_triton.served_model import ServedModel, find_recognizer
from nemo_triton.tls import Tls

_HANGS = "health checks timed out"


@dataclass
class Endpoints:
    """The servers behind one client. Threads can share it.

    Attributes:
        urls: Address of each server as host:port, as the user wrote it.
        tls: Certificates; None connects without TLS.
        open: Function that creates Triton's client for an address.
        pool: The servers.
        checks: Their checks. Set by `connect`.
    """

    urls: tuple[str, ...]
    tls: Tls | None
    open: Callable[[Address], Any]
    pool: EndpointPool = field(default_factory=EndpointPool, init=False)
    checks: EndpointChecks = field(init=False)

    @property
    def model(self) -> ServedModel:
        """The recognizer that all servers serve."""
        return self.checks.export.model

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
        endpoints = [Endpoint(address, self.open(address)) for address in random.sample(addresses, len(addresses))]
        self.pool.add(endpoints)
        errors: dict[Endpoint, RecognizerError] = {}
        export: Export | None = None
        for endpoint in endpoints:
            try:
                known_name = export.model.name if export else name
                model = yield from endpoint_calls(endpoint, find_recognizer(known_name))
            except RecognizerError as error:
                errors[endpoint] = yield from diagnosed(endpoint, error, self.tls)
                continue
            export = export or Export(model, endpoint.name)
            difference = export.difference(endpoint, model)
            if difference:
                raise RecognizerError(f"{difference}; serve the same export on both, or give the URL of one")
            endpoint.up, endpoint.times_joined = True, 1
        if not export:
            raise connection_error(errors)
        self.checks = EndpointChecks(self.pool, self.open, export)
        for endpoint, problem in errors.items():
            self.pool.leave_out(endpoint, reason_of(problem).removeprefix(f"{endpoint.name}: "))

    def recognition(
        self,
        model: ServedModel,
        arguments: dict[str, Any],
        *,
        seconds: float,
        audio_seconds: float,
        retry_full_queue: bool = True,
    ) -> EndpointCalls[ServerResponse]:
        """Send one request, and retry it on another endpoint if its server fails.

        Args:
            model: The recognizer, for error messages.
            arguments: Arguments of Triton's `infer`.
            seconds: Deadline for all attempts together.
            audio_seconds: Length of the audio.
            retry_full_queue: Whether to retry while queues are full.

        Raises:
            RecognitionError: No attempt succeeded.
        """
        attempts = Attempts(time.monotonic() + seconds, seconds)
        refusal: InferenceServerException | None = None
        name = ",".join(self.urls)
        while True:
            choice = yield from self._take(attempts, audio_seconds, wait_for_room=retry_full_queue)
            if not choice:
                no_room = refusal or InferenceServerException(NO_ROOM, "StatusCode.UNAVAILABLE")
                raise _explained(no_room, model, name, seconds, attempts) from no_room
            endpoint, pending = choice
            name = endpoint.name
            connection = endpoint.connection
            try:
                remaining = max(attempts.deadline - time.monotonic(), 0.001)
                result = yield EndpointCall(endpoint, "infer", {**arguments, "client_timeout": remaining})
            except InferenceServerException as error:
                # A check closes the connection to a server that hangs, which cancels its requests.
                hangs = endpoint.connection is not connection and error.status() == "StatusCode.CANCELLED"
                failure = InferenceServerException(_HANGS, "StatusCode.UNAVAILABLE") if hangs else error
                if fault_of(failure) is Fault.QUEUE:
                    # Before the release wakes others, who may have no room either.
                    self.pool.note_refusal(endpoint, attempts, pending)
            else:
                self.pool.note_success(endpoint, attempts, pending)
                return ServerResponse(
                    result=result, endpoint=endpoint.name, attempts=attempts.total, refusals=attempts.refusals
                )
            finally:
                self.pool.release(endpoint, pending)
            if fault_of(failure) is Fault.QUEUE:
                refusal = failure
                may_retry = retry_full_queue
            else:
                may_retry = yield from self._may_retry(endpoint, failure, attempts, pending)
            if not may_retry:
                if refusal and fault_of(failure) is Fault.DEADLINE and not attempts.had_time(pending):
                    # The time for the last attempt was what the waits had left.
                    failure = refusal
                raise _explained(failure, model, name, seconds, attempts) from failure

    def check(self) -> EndpointCalls[None]:
        """Find endpoints that are new, that went down or hang, and that recovered."""
        try:
            addresses = yield partial(resolve, self.urls)
            yield from self.checks.check_all(addresses)
        finally:
            self.pool.wake()

    def close(self) -> EndpointCalls[None]:
        """Close all connections."""
        for endpoint in (*self.pool.all, *self.pool.leaving):
            yield EndpointCall(endpoint, "close", {})

    def _take(
        self, attempts: Attempts, audio_seconds: float, *, wait_for_room: bool
    ) -> EndpointCalls[tuple[Endpoint, Pending] | None]:
        """Wait until a server has room, and count the request as pending there; None if the time is over."""
        try:
            while True:
                choice = self.pool.take(attempts, audio_seconds, wait_for_room=wait_for_room)
                if not isinstance(choice, Turn):
                    return choice
                yield choice
        finally:
            self.pool.leave_line(attempts)

    def _may_retry(
        self, endpoint: Endpoint, failure: InferenceServerException, attempts: Attempts, pending: Pending
    ) -> EndpointCalls[bool]:
        """Whether the endpoint caused the failure, so that another endpoint can succeed."""
        fault = fault_of(failure)
        reason = one_line(failure.message())
        if fault is Fault.DEADLINE:
            self.pool.note_late(endpoint, attempts, pending)
        if fault in (Fault.REQUEST, Fault.DEADLINE) or self.pool.all == [endpoint]:
            return False
        if fault is Fault.OUTAGE and endpoint.usable:
            yield from self.checks.check(endpoint)
        return self.pool.note_failure(endpoint, fault, reason, attempts)


def _explained(
    failure: InferenceServerException, model: ServedModel, name: str, seconds: float, attempts: Attempts
) -> RecognitionError:
    explained = explain_request(failure, model, name, seconds)
    explained.attempts, explained.refusals = attempts.total, attempts.refusals
    return explained
