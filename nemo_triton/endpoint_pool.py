"""The servers behind one client: which one gets a request, and which gets none.

A request goes to the server with the fewest of this client's requests in flight. Ties go to the server that was used
least recently. So servers of equal speed get equal shares, and a slower server gets fewer requests. Recent failures
make a server look busier; otherwise the one that fails fastest would get most requests. A server whose answers fail
while others' succeed is ejected for a time (outliers.py).
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import RLock

from nemo_triton.concurrency_limit import ConcurrencyLimit
from nemo_triton.endpoint import Endpoint, Pending, Turn
from nemo_triton.faults import Fault
from nemo_triton.latency_estimate import LatencyEstimate
from nemo_triton.outliers import Answer, Outcome, OutlierPolicy, outlier_reason
from nemo_triton.retry_budget import RetryBudget
from nemo_triton.waiting_line import Waiting, WaitingLine

MAX_ATTEMPTS_PER_ENDPOINT = 2
"""Failed attempts of one request per endpoint. The limit matters if the request itself crashes the server."""
LOG_NAME = "nemo_triton.endpoints"
"""The logger that gets one message for each event."""
OUTLIER_LOG_NAME = f"{LOG_NAME}.outliers"
"""The logger of events that depend on this client's requests. Other clients of the same servers can have others."""

_FULL_SECONDS = 0.5
"""How long other endpoints are preferred to one with a full queue."""
_LAST_MOMENT_SECONDS = 0.01
"""Too little time before a deadline for a request that waited or was refused."""

_log = logging.getLogger(LOG_NAME)
_outlier_log = logging.getLogger(OUTLIER_LOG_NAME)


@dataclass
class Attempts:
    """The attempts of one request so far.

    Attributes:
        deadline: Deadline of the request on the monotonic clock, in seconds.
        seconds: Time from its start to the deadline.
        total: Number of attempts.
        failures: Failed attempts of each endpoint; refusals by a full queue don't count.
        exhausted: Endpoints that don't get the request again.
        suspects: Answers that count as failures of their endpoints once another endpoint succeeds.
        refusals: Attempts that a full queue refused.
        waiting: Its place in the line for a server with room; None if it is not in the line.
    """

    deadline: float
    seconds: float
    total: int = 0
    failures: Counter[Endpoint] = field(default_factory=Counter)
    exhausted: set[Endpoint] = field(default_factory=set)
    suspects: list[tuple[Endpoint, Answer]] = field(default_factory=list)
    refusals: int = 0
    waiting: Waiting | None = None

    @property
    def is_delayed(self) -> bool:
        """Whether it waited in the line or was refused, so that less than its whole time is left."""
        return bool(self.waiting or self.refusals)

    def had_time(self, pending: Pending) -> bool:
        """Whether an attempt had at least half of the request's time."""
        return self.deadline - pending.sent >= self.seconds / 2


@dataclass
class EndpointPool:
    """The servers behind one client, and what their answers say about them. Threads can share it.

    Attributes:
        policy: When an endpoint is ejected, and for how long.
        lock: Guards the state of the endpoints.
    """

    policy: OutlierPolicy = field(default_factory=OutlierPolicy)
    lock: RLock = field(default_factory=RLock, init=False)
    _endpoints: list[Endpoint] = field(default_factory=list, init=False)
    """Ordered by last use, least recent first."""
    _leaving: list[Endpoint] = field(default_factory=list, init=False)
    _budget: RetryBudget = field(default_factory=RetryBudget, init=False)
    _line: WaitingLine = field(default_factory=WaitingLine, init=False)

    @property
    def all(self) -> list[Endpoint]:
        """All endpoints, sorted by name."""
        with self.lock:
            return sorted(self._endpoints, key=lambda endpoint: endpoint.name)

    @property
    def usable(self) -> list[Endpoint]:
        """The endpoints that get requests."""
        return [endpoint for endpoint in self.all if endpoint.usable]

    @property
    def leaving(self) -> list[Endpoint]:
        """Endpoints whose address is gone and whose requests are still pending."""
        with self.lock:
            return [*self._leaving]

    def add(self, endpoints: Sequence[Endpoint]) -> None:
        """Add endpoints, the one to use next first."""
        with self.lock:
            self._endpoints += endpoints

    def remove(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Remove endpoints, and return those removed now or earlier that have no pending request."""
        with self.lock:
            self._endpoints = [endpoint for endpoint in self._endpoints if endpoint not in endpoints]
            self._leaving += endpoints
            idle = [endpoint for endpoint in self._leaving if not endpoint.in_flight]
            self._leaving = [endpoint for endpoint in self._leaving if endpoint not in idle]
            return idle

    def take(
        self, attempts: Attempts, audio_seconds: float, *, wait_for_room: bool
    ) -> tuple[Endpoint, Pending] | Turn | None:
        """Choose the endpoint of the next attempt, and count the request as pending there.

        Args:
            attempts: The attempts of the request so far.
            audio_seconds: Length of its audio.
            wait_for_room: Don't send what full queues would refuse, and let earlier requests go first.

        Returns:
            The endpoint; or what to wait for, before the next call; or None if the request was delayed so long that
            no answer is likely before its deadline. `leave_line` must follow.
        """
        with self.lock:
            now = time.monotonic()
            if attempts.is_delayed and attempts.deadline - now < _LAST_MOMENT_SECONDS:
                return None
            remaining = [endpoint for endpoint in self._endpoints if endpoint not in attempts.exhausted]
            usable = [endpoint for endpoint in remaining if endpoint.usable]
            # If no endpoint is up, try one anyway: it may have recovered since the last check.
            candidates = usable or [endpoint for endpoint in remaining if endpoint.up] or remaining or self._endpoints
            if wait_for_room and usable:
                room = self._room(usable, now)
                is_turn = sum(room.values()) > self._line.position(attempts.waiting, usable)
                candidates = [endpoint for endpoint in usable if room[endpoint]] if is_turn else usable
                if attempts.is_delayed:
                    left = attempts.deadline - now
                    candidates = [endpoint for endpoint in candidates if self._likely_seconds(endpoint) <= left]
                if not candidates:
                    return None
                if not is_turn:
                    return self._turn(attempts, candidates, now)
            endpoint = min(
                candidates,
                key=lambda endpoint: (
                    attempts.failures[endpoint],
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

    def _turn(self, attempts: Attempts, candidates: Sequence[Endpoint], now: float) -> Turn:
        if attempts.waiting:
            # Without waking others: two requests that can't use the server with room would wake each other for ever.
            self._line.leave(attempts.waiting)
        attempts.waiting = Waiting(attempts.deadline, attempts.exhausted)
        self._line.join(attempts.waiting)
        blocked = min(endpoint.limit.blocked_seconds(now) for endpoint in candidates)
        seconds = min(blocked, attempts.deadline - now - min(map(self._likely_seconds, candidates)))
        return Turn(attempts.waiting.turn, max(seconds, 0))

    def leave_line(self, attempts: Attempts) -> None:
        """Let the requests behind this one move up."""
        with self.lock:
            if attempts.waiting:
                self._line.leave(attempts.waiting)
                attempts.waiting = None
                self.wake()

    def wake(self) -> None:
        """Wake as many requests as there is room for, or all if no endpoint is usable: they find out why."""
        with self.lock:
            now = time.monotonic()
            usable = [endpoint for endpoint in self._endpoints if endpoint.usable]
            if not usable:
                self._line.wake_all()
                return
            self._line.wake(self._room(usable, now))
            if any(endpoint.limit.blocked_seconds(now) < math.inf for endpoint in usable):
                # No answer will come from there: the first in the line waits for the end of the block.
                self._line.wake_first()

    def _likely_seconds(self, endpoint: Endpoint) -> float:
        """Seconds that an answer may take; 0 if the server has no pending request, so that a request finds out."""
        return endpoint.latency.high if endpoint.in_flight else 0

    def _room(self, endpoints: Sequence[Endpoint], now: float) -> dict[Endpoint, float]:
        return {endpoint: endpoint.limit.room(endpoint.in_flight, now) for endpoint in endpoints}

    def _load(self, endpoint: Endpoint, now: float) -> float:
        """Pending requests, the next included, times a penalty for recent failures."""
        start = now - self.policy.window_seconds
        if endpoint.history.last_failure < start:
            return endpoint.in_flight + 1
        endpoint.history.drop_before(start)
        return (endpoint.in_flight + 1) * endpoint.history.penalty

    def release(self, endpoint: Endpoint, pending: Pending) -> None:
        """Count a request as answered."""
        with self.lock:
            endpoint.pending.discard(pending)
            self.wake()

    def note_success(self, endpoint: Endpoint, attempts: Attempts, pending: Pending) -> None:
        """Note that an endpoint answered."""
        with self.lock:
            now = endpoint.last_answer = time.monotonic()
            endpoint.latency.note(now - pending.sent)
            endpoint.history.add(Answer(now, Outcome.SUCCESS))
            endpoint.limit.note_answer()
            self._budget.deposit()
            for _, answer in attempts.suspects:
                answer.outcome = Outcome.FAILURE
            # A server can fail before the first success of another shows that it is an outlier.
            for other in self._endpoints:
                if other is not endpoint and other.history.last_failure > now - self.policy.window_seconds:
                    self._eject_outlier(other, now)

    def note_refusal(self, endpoint: Endpoint, attempts: Attempts, pending: Pending) -> None:
        """Note that a queue was full: the server is busy and not sick. The request is no longer pending."""
        with self.lock:
            endpoint.pending.discard(pending)
            # A refusal is no sign of life of the model: a server whose encoder hangs refuses, too.
            now = time.monotonic()
            endpoint.full_until = now + _FULL_SECONDS
            endpoint.limit.note_refusal(sent=pending.sent, in_flight=endpoint.in_flight, now=now)
            attempts.refusals += 1

    def note_late(self, endpoint: Endpoint, attempts: Attempts, pending: Pending) -> None:
        """Note that a deadline passed, of a request that was released.

        The endpoint is at fault only if it sent no answer since, but others did. An attempt that had little time says
        nothing about it.
        """
        if not attempts.had_time(pending):
            return
        with self.lock:
            now = time.monotonic()
            if endpoint.last_answer >= pending.sent:
                # It answers others, so it has more requests than it can answer in time.
                endpoint.limit.note_late(sent=pending.sent, in_flight=endpoint.in_flight + 1, now=now)
                endpoint.latency.note(now - pending.sent)
            elif any(other.last_answer > pending.sent for other in self._endpoints):
                endpoint.history.add(Answer(now, Outcome.FAILURE, "no answer before the deadline"))
                self._eject_outlier(endpoint, now)

    def note_failure(self, endpoint: Endpoint, fault: Fault, reason: str, attempts: Attempts) -> bool:
        """Note that an endpoint failed an attempt; returns whether another endpoint gets the request."""
        with self.lock:
            attempts.failures[endpoint] += 1
            if fault is Fault.SERVER or attempts.failures[endpoint] == MAX_ATTEMPTS_PER_ENDPOINT:
                attempts.exhausted.add(endpoint)
            if endpoint.up:
                self._add_failure(endpoint, fault, reason, attempts)
            others = [other for other in self._endpoints if other.up and other not in attempts.exhausted]
            # An ejected endpoint is the last resort for a request whose server went down.
            if fault is Fault.SERVER:
                others = [other for other in others if other.usable]
            if not others or time.monotonic() > attempts.deadline:
                self._clear(attempts)
                return False
            # The load of an endpoint that gets no more requests moves to others. It does not multiply.
            return not endpoint.usable or self._budget.withdraw()

    def _add_failure(self, endpoint: Endpoint, fault: Fault, reason: str, attempts: Attempts) -> None:
        now = endpoint.last_answer = time.monotonic()
        answer = Answer(now, Outcome.SUSPECT if fault is Fault.SERVER else Outcome.FAILURE, reason)
        endpoint.history.add(answer)
        if fault is Fault.SERVER:
            attempts.suspects.append((endpoint, answer))
        self._eject_outlier(endpoint, now)

    def join(self, endpoint: Endpoint) -> None:
        """Use an endpoint that came up."""
        with self.lock:
            is_new = endpoint.problem is None
            endpoint.up = True
            endpoint.limit, endpoint.latency, endpoint.full_until = ConcurrencyLimit(), LatencyEstimate(), 0.0
            endpoint.times_joined += 1
            if endpoint.ejected_until is not None:
                # The server was restarted. Probe it immediately.
                endpoint.ejected_until = time.monotonic()
                return
            endpoint.problem = None
        _log.info("%s: %s", endpoint.name, "is new and gets requests" if is_new else "is back and gets requests again")

    def leave_out(self, endpoint: Endpoint, problem: str) -> None:
        """Stop using an endpoint that does not pass the checks."""
        with self.lock:
            earlier, endpoint.problem, endpoint.up = endpoint.problem, problem, False
        if earlier is None:
            _log.warning("%s: not used until it recovers; other servers get its requests (%s)", endpoint.name, problem)

    def readmit(self, endpoint: Endpoint) -> None:
        """Use an ejected endpoint again."""
        with self.lock:
            endpoint.ejected_until, endpoint.problem = None, None
            endpoint.readmitted = time.monotonic()
            endpoint.history.clear()
        _outlier_log.info("%s: is back and gets requests again", endpoint.name)

    def is_silent(self, endpoint: Endpoint, now: float) -> bool:
        """Whether an endpoint sent no answer for long, while another endpoint did."""
        with self.lock:
            longest = max((pending.audio_seconds for pending in endpoint.pending), default=0.0)
            limit = self.policy.silent_seconds + self.policy.silent_seconds_per_audio_second * longest
            silence = self.silence(endpoint, now)
            return silence > limit and any(
                other.last_answer > now - silence for other in self._endpoints if other is not endpoint
            )

    def silence(self, endpoint: Endpoint, now: float) -> float:
        """Seconds without an answer in which requests were pending."""
        with self.lock:
            oldest = min((pending.sent for pending in endpoint.pending), default=now)
        return now - max(oldest, endpoint.last_answer)

    def _clear(self, attempts: Attempts) -> None:
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
            self.eject(endpoint, reason)

    def eject(self, endpoint: Endpoint, reason: str) -> None:
        """Stop sending requests to an endpoint for some time, unless too many are ejected."""
        with self.lock:
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
