"""The servers behind one client: which server gets a request, and what happens if a server fails.

A request goes to the server with the fewest of this client's requests in flight. Ties go to the server that was used
least recently. So servers of equal speed get equal shares, and a slower server gets fewer requests. Recent failures
make a server look busier; otherwise the one that fails fastest would get most requests. A server whose answers fail
while others' succeed is ejected for a time (outliers.py).

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import RLock
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from nemo_triton.addresses import Address, resolve
from nemo_triton.calls import single_call
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.endpoint import Concurrently, Endpoint, EndpointCall, EndpointCalls, Pause, Pending, endpoint_calls
from nemo_triton.endpoint_errors import connection_error, diagnosed, is_late, reason_of
from nemo_triton.errors import RecognizerError, one_line
from nemo_triton.faults import Fault, fault_of
from nemo_triton.outliers import Answer, Outcome, OutlierPolicy, outlier_reason
from nemo_triton.protocol import ServerResponse, explain_request, request
from nemo_triton.retry_budget import RetryBudget
from nemo_triton.served_model import ServedModel, find_recognizer
from nemo_triton.tls import Tls

CHECK_INTERVAL_SECONDS = 2.0
"""Seconds between two checks of all endpoints."""
CHECK_SECONDS = 4.0
"""Deadline of each call of a check."""
MAX_ATTEMPTS_PER_ENDPOINT = 2
"""Failed attempts of one request per endpoint. The limit matters if the request itself crashes the server."""

_CHECK_POLL_SECONDS = 0.01
_MAX_LATE_CHECKS = 2
"""An endpoint hangs if this many checks in a row miss their deadline."""
_HANGS = "health checks timed out"
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 0.1, 2.0
"""Limits of the random wait after the queues of all servers were full; the first doubles with each round."""
_FULL_SECONDS = 0.5
"""How long other endpoints are preferred to one with a full queue."""
_LAST_MOMENT_SECONDS = 0.01
"""Too little time before a deadline for another attempt."""

_log = logging.getLogger(__name__)
_outlier_log = _log.getChild("outliers")
"""Events that depend on the requests of this client. Other clients of the same servers can have others."""


@dataclass
class _Attempts:
    """The attempts of one request so far.

    Attributes:
        deadline: Deadline of the request on the monotonic clock, in seconds.
        total: Number of attempts.
        failures: Failed attempts of each endpoint; refusals by a full queue don't count.
        exhausted: Endpoints that don't get the request again.
        suspects: Answers that count as failures of their endpoints once another endpoint succeeds.
        refusals: Attempts that a full queue refused.
        full: Endpoints that refused since the last wait.
        waits: Number of waits.
    """

    deadline: float
    total: int = 0
    failures: Counter[Endpoint] = field(default_factory=Counter)
    exhausted: set[Endpoint] = field(default_factory=set)
    suspects: list[tuple[Endpoint, Answer]] = field(default_factory=list)
    refusals: int = 0
    full: set[Endpoint] = field(default_factory=set)
    waits: int = 0


@dataclass
class Endpoints:
    """The servers behind one client. Threads can share it.

    Attributes:
        urls: Address of each server as host:port, as the user wrote it.
        tls: Certificates; None connects without TLS.
        open: Function that creates Triton's client for an address.
        policy: When an endpoint is ejected, and for how long.
        model: The recognizer that all servers serve. Set by `connect`.
    """

    urls: tuple[str, ...]
    tls: Tls | None
    open: Callable[[Address], Any]
    policy: OutlierPolicy = field(default_factory=OutlierPolicy)
    model: ServedModel = field(init=False)
    _endpoints: list[Endpoint] = field(default_factory=list, init=False)
    """Ordered by last use, least recent first."""
    _leaving: list[Endpoint] = field(default_factory=list, init=False)
    _described_by: str = field(default="", init=False)
    _budget: RetryBudget = field(default_factory=RetryBudget, init=False)
    _lock: RLock = field(default_factory=RLock, init=False)

    @property
    def all(self) -> list[Endpoint]:
        """All endpoints, sorted by name."""
        with self._lock:
            return sorted(self._endpoints, key=lambda endpoint: endpoint.name)

    @property
    def usable(self) -> list[Endpoint]:
        """The endpoints that get requests."""
        return [endpoint for endpoint in self.all if endpoint.usable]

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
            self._leave_out(endpoint, reason_of(problem).removeprefix(f"{endpoint.name}: "))

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
        attempts = _Attempts(time.monotonic() + seconds)
        refusal: InferenceServerException | None = None
        while True:
            endpoint, pending = self._take(attempts, audio_seconds)
            connection = endpoint.connection
            try:
                remaining = max(attempts.deadline - time.monotonic(), 0.001)
                result = yield EndpointCall(endpoint, "infer", {**arguments, "client_timeout": remaining})
            except InferenceServerException as error:
                # A check closes the connection to a server that hangs, which cancels its requests.
                hangs = endpoint.connection is not connection and error.status() == "StatusCode.CANCELLED"
                failure = InferenceServerException(_HANGS, "StatusCode.UNAVAILABLE") if hangs else error
            else:
                self._note_success(endpoint, attempts)
                return ServerResponse(
                    result=result, endpoint=endpoint.name, attempts=attempts.total, refusals=attempts.refusals
                )
            finally:
                with self._lock:
                    endpoint.pending.discard(pending)
            if fault_of(failure) is Fault.QUEUE:
                refusal = failure
                self._note_refusal(endpoint, attempts)
                may_retry = retry_full_queue and (yield from self._wait_for_queue(attempts))
            else:
                may_retry = yield from self._may_retry(endpoint, failure, attempts, pending)
            if not may_retry:
                if refusal and fault_of(failure) is Fault.DEADLINE and attempts.refusals == attempts.total - 1:
                    # The time for the last attempt was what the waits had left.
                    failure = refusal
                explained = explain_request(failure, model, endpoint.name, seconds)
                explained.attempts, explained.refusals = attempts.total, attempts.refusals
                raise explained from failure

    def check(self) -> EndpointCalls[None]:
        """Find endpoints that are new, that went down or hang, and that recovered."""
        gone = self._update((yield partial(resolve, self.urls)))
        endpoints = self.all
        if len(endpoints) > 1:
            yield Concurrently([self._check_and_probe(endpoint) for endpoint in endpoints])
        elif endpoints[0].in_flight:
            yield from self._check_only_endpoint(endpoints[0])
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

    def _take(self, attempts: _Attempts, audio_seconds: float) -> tuple[Endpoint, Pending]:
        """Choose the endpoint of the next attempt, and count the request as pending there."""
        with self._lock:
            remaining = [endpoint for endpoint in self._endpoints if endpoint not in attempts.exhausted]
            # If no endpoint is up, try one anyway: it may have recovered since the last check.
            candidates = (
                [endpoint for endpoint in remaining if endpoint.usable]
                or [endpoint for endpoint in remaining if endpoint.up]
                or self._endpoints
            )
            now = time.monotonic()
            endpoint = min(
                candidates,
                key=lambda endpoint: (
                    attempts.failures[endpoint],
                    endpoint in attempts.full,
                    now < endpoint.full_until,
                    self._load(endpoint, now),
                ),
            )
            self._endpoints.remove(endpoint)
            self._endpoints.append(endpoint)
            pending = Pending(audio_seconds, now)
            endpoint.pending.add(pending)
            attempts.total += 1
            return endpoint, pending

    def _load(self, endpoint: Endpoint, now: float) -> float:
        """Pending requests, the next included, times a penalty for recent failures."""
        start = now - self.policy.window_seconds
        if endpoint.history.last_failure < start:
            return endpoint.in_flight + 1
        endpoint.history.drop_before(start)
        return (endpoint.in_flight + 1) * endpoint.history.penalty

    def _note_success(self, endpoint: Endpoint, attempts: _Attempts) -> None:
        with self._lock:
            now = endpoint.last_answer = time.monotonic()
            endpoint.history.add(Answer(now, Outcome.SUCCESS))
            self._budget.deposit()
            for _, answer in attempts.suspects:
                answer.outcome = Outcome.FAILURE
            # A server can fail before the first success of another shows that it is an outlier.
            for other in self._endpoints:
                if other is not endpoint and other.history.last_failure > now - self.policy.window_seconds:
                    self._eject_outlier(other, now)

    def _note_refusal(self, endpoint: Endpoint, attempts: _Attempts) -> None:
        """Note that a queue was full: the server is busy and not sick."""
        with self._lock:
            # A refusal is no sign of life of the model: a server whose encoder hangs refuses, too.
            endpoint.full_until = time.monotonic() + _FULL_SECONDS
            attempts.refusals += 1
            attempts.full.add(endpoint)

    def _wait_for_queue(self, attempts: _Attempts) -> EndpointCalls[bool]:
        """Wait before the next attempt if all queues are full; returns whether there is time for one."""
        if any(endpoint not in attempts.full | attempts.exhausted for endpoint in self.usable):
            return True
        remaining = attempts.deadline - time.monotonic()
        if remaining < _LAST_MOMENT_SECONDS:
            return False
        # Full jitter: clients that were refused together don't come back together.
        longest = min(_FIRST_BACKOFF_SECONDS * 2.0**attempts.waits, _LONGEST_BACKOFF_SECONDS, remaining)
        yield Pause(random.uniform(0, longest))
        attempts.waits += 1
        attempts.full.clear()
        return True

    def _may_retry(
        self, endpoint: Endpoint, failure: InferenceServerException, attempts: _Attempts, pending: Pending
    ) -> EndpointCalls[bool]:
        """Whether the endpoint caused the failure, so that another endpoint can succeed."""
        fault = fault_of(failure)
        reason = one_line(failure.message())
        if fault is Fault.DEADLINE:
            self._note_late(endpoint, pending)
        if fault in (Fault.REQUEST, Fault.DEADLINE) or self.all == [endpoint]:
            return False
        if fault is Fault.OUTAGE and endpoint.usable:
            yield from self._check(endpoint)
        with self._lock:
            attempts.failures[endpoint] += 1
            if fault is Fault.SERVER or attempts.failures[endpoint] == MAX_ATTEMPTS_PER_ENDPOINT:
                attempts.exhausted.add(endpoint)
            if endpoint.up:
                self._note_failure(endpoint, attempts, fault, reason)
            others = [other for other in self._endpoints if other.up and other not in attempts.exhausted]
            # An ejected endpoint is the last resort for a request whose server went down.
            if fault is Fault.SERVER:
                others = [other for other in others if other.usable]
            if not others or time.monotonic() > attempts.deadline:
                self._clear(attempts)
                return False
            # The load of an endpoint that gets no more requests moves to others. It does not multiply.
            return not endpoint.usable or self._budget.withdraw()

    def _note_failure(self, endpoint: Endpoint, attempts: _Attempts, fault: Fault, reason: str) -> None:
        now = endpoint.last_answer = time.monotonic()
        answer = Answer(now, Outcome.SUSPECT if fault is Fault.SERVER else Outcome.FAILURE, reason)
        endpoint.history.add(answer)
        if fault is Fault.SERVER:
            attempts.suspects.append((endpoint, answer))
        self._eject_outlier(endpoint, now)

    def _note_late(self, endpoint: Endpoint, pending: Pending) -> None:
        """Note that a deadline passed. The endpoint is at fault only if it sent no answer since, but others did."""
        with self._lock:
            silent = endpoint.last_answer < pending.sent
            if silent and any(other.last_answer > pending.sent for other in self._endpoints):
                now = time.monotonic()
                endpoint.history.add(Answer(now, Outcome.FAILURE, "no answer before the deadline"))
                self._eject_outlier(endpoint, now)

    def _clear(self, attempts: _Attempts) -> None:
        """Clear the endpoints of suspicion if the request failed on several: the request is at fault."""
        if len({endpoint for endpoint, _ in attempts.suspects}) > 1:
            for endpoint, answer in attempts.suspects:
                endpoint.history.discard(answer)

    def _eject_outlier(self, endpoint: Endpoint, now: float) -> None:
        """Eject an endpoint if its answers fail while those of another succeed."""
        endpoint.history.drop_before(now - self.policy.window_seconds)
        others = [other.history for other in self._endpoints if other.usable and other is not endpoint]
        reason = outlier_reason(endpoint.history, others, self.policy) if endpoint.usable else None
        if reason:
            self._eject(endpoint, reason)

    def _eject(self, endpoint: Endpoint, reason: str) -> None:
        """Stop sending requests to an endpoint for some time, unless too many are ejected."""
        with self._lock:
            ejected = sum(other.ejected_until is not None for other in self._endpoints if other is not endpoint)
            others = any(other.usable for other in self._endpoints if other is not endpoint)
            if not others or ejected >= self.policy.max_ejected(len(self._endpoints)):
                return
            now = time.monotonic()
            if endpoint.usable and now - endpoint.readmitted > self.policy.max_ejection_seconds:
                endpoint.ejections = 0
            seconds = min(self.policy.ejection_seconds * 2.0**endpoint.ejections, self.policy.max_ejection_seconds)
            endpoint.ejections += 1
            endpoint.ejected_until, endpoint.problem = now + seconds, reason
            endpoint.history.clear()
        _outlier_log.warning(
            "%s: ejected for %g s; other servers get its requests (%s)", endpoint.name, seconds, reason
        )

    def _check_and_probe(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check an endpoint, find out whether it hangs, and probe it at the end of an ejection."""
        yield from self._check(endpoint)
        now = time.monotonic()
        if self._is_silent(endpoint, now):
            if endpoint.usable:
                self._eject(endpoint, f"no answer to a request for {self._silence(endpoint, now):.0f} s")
            # The last endpoint in use is not ejected; its requests have nowhere else to go.
            if not endpoint.usable:
                yield from self._reopen(endpoint)
        if endpoint.up and endpoint.ejected_until is not None and now >= endpoint.ejected_until:
            yield from self._probe(endpoint)

    def _check_only_endpoint(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check that the only endpoint does not hang. gRPC's keepalive can't: Triton refuses frequent pings."""
        try:
            yield from endpoint_calls(endpoint, single_call("is_server_live", {}), CHECK_SECONDS)
        except RecognizerError as error:
            endpoint.late_checks = endpoint.late_checks + 1 if is_late(error) else 0
            if endpoint.late_checks == _MAX_LATE_CHECKS:
                endpoint.late_checks = 0
                yield from self._reopen(endpoint)
            return
        endpoint.late_checks = 0

    def _check(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check an endpoint, or wait for the check that is under way: many requests fail together."""
        with self._lock:
            begins, endpoint.checking = not endpoint.checking, True
        if begins:
            try:
                yield from self._check_export(endpoint)
            finally:
                endpoint.checking = False
        while endpoint.checking:
            yield Pause(_CHECK_POLL_SECONDS)

    def _check_export(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Check that an endpoint serves the same export, and use it or leave it out."""
        try:
            model = yield from endpoint_calls(endpoint, find_recognizer(self.model.name), CHECK_SECONDS)
        except RecognizerError as error:
            if is_late(error):
                endpoint.late_checks += 1
                if endpoint.up and endpoint.late_checks < _MAX_LATE_CHECKS:
                    return
            self._leave_out(endpoint, reason_of(error))
            if is_late(error) and endpoint.in_flight:
                yield from self._reopen(endpoint)
            return
        endpoint.late_checks = 0
        difference = self._difference(endpoint, model)
        if difference:
            self._leave_out(endpoint, difference)
        elif not endpoint.up:
            self._join(endpoint)

    def _join(self, endpoint: Endpoint) -> None:
        """Use an endpoint that came up."""
        with self._lock:
            is_new = endpoint.problem is None
            endpoint.up = True
            endpoint.times_joined += 1
            if endpoint.ejected_until is not None:
                # The server was restarted. Probe it immediately.
                endpoint.ejected_until = time.monotonic()
                return
            endpoint.problem = None
        _log.info("%s: %s", endpoint.name, "is new and gets requests" if is_new else "is back and gets requests again")

    def _probe(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Use an ejected endpoint again if a few recognitions succeed. A sick server can still say that it is ready."""
        silence = request(self.model, np.zeros(SAMPLE_RATE, np.int16), log_probs=False)
        for _ in range(self.policy.probes):
            try:
                yield EndpointCall(endpoint, "infer", {**silence, "client_timeout": self.policy.probe_seconds})
            except InferenceServerException as error:
                # A full queue says nothing. The next check probes again.
                if fault_of(error) is not Fault.QUEUE:
                    self._eject(endpoint, f"a probe failed: {one_line(error.message())}")
                return
        with self._lock:
            endpoint.ejected_until, endpoint.problem = None, None
            endpoint.readmitted = time.monotonic()
            endpoint.history.clear()
        _outlier_log.info("%s: is back and gets requests again", endpoint.name)

    def _is_silent(self, endpoint: Endpoint, now: float) -> bool:
        """Whether an endpoint sent no answer for long, while another endpoint did."""
        with self._lock:
            longest = max((pending.audio_seconds for pending in endpoint.pending), default=0.0)
            limit = self.policy.silent_seconds + self.policy.silent_seconds_per_audio_second * longest
            silence = self._silence(endpoint, now)
            return silence > limit and any(
                other.last_answer > now - silence for other in self._endpoints if other is not endpoint
            )

    def _silence(self, endpoint: Endpoint, now: float) -> float:
        """Seconds without an answer in which requests were pending."""
        with self._lock:
            oldest = min((pending.sent for pending in endpoint.pending), default=now)
        return now - max(oldest, endpoint.last_answer)

    def _reopen(self, endpoint: Endpoint) -> EndpointCalls[None]:
        """Cancel the pending requests of a hanging endpoint, so that they fail or are retried on another."""
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
