"""One server behind a client: its state, and calls to it.

Calls are written as generators, as in calls.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tritonclient.utils import InferenceServerException

from nemo_triton.addresses import Address
from nemo_triton.calls import Answer, Calls
from nemo_triton.concurrency_limit import ConcurrencyLimit
from nemo_triton.latency_estimate import LatencyEstimate
from nemo_triton.outliers import AnswerHistory
from nemo_triton.protocol import explain

_CALL_SECONDS = 10.0
"""Deadline of calls other than recognitions, which a healthy server answers immediately."""


@dataclass(eq=False)
class Pending:
    """A pending request.

    Attributes:
        audio_seconds: Length of its audio.
        sent: Send time on the machine's monotonic clock, in seconds.
    """

    audio_seconds: float
    sent: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class Endpoint:
    """One server.

    Attributes:
        address: Address of the server.
        connection: Triton's client for the server.
        pending: Pending requests of this client.
        history: Recent answers.
        up: Whether the server passes the checks.
        problem: Reason why the server is not used; None if it is.
        checking: Whether a check is under way.
        late_checks: Checks in a row that missed their deadline.
        times_joined: Number of times that the server came up. Its counters restart each time.
        ejected_until: When an ejection ends, on the monotonic clock; None if the endpoint is not ejected.
        ejections: Ejections that count for the duration of the next.
        readmitted: When the last ejection ended, on the monotonic clock.
        last_answer: When the last answer arrived, on the monotonic clock.
        full_until: Until when other endpoints are preferred because a queue was full, on the monotonic clock.
        limit: Most pending requests, learnt from refusals and late answers.
        latency: Time until answers.
    """

    address: Address
    connection: Any
    pending: set[Pending] = field(default_factory=set)
    history: AnswerHistory = field(default_factory=AnswerHistory)
    up: bool = False
    problem: str | None = None
    checking: bool = False
    late_checks: int = 0
    times_joined: int = 0
    ejected_until: float | None = None
    ejections: int = 0
    readmitted: float = float("-inf")
    last_answer: float = 0.0
    full_until: float = 0.0
    limit: ConcurrencyLimit = field(default_factory=ConcurrencyLimit)
    latency: LatencyEstimate = field(default_factory=LatencyEstimate)

    @property
    def name(self) -> str:
        """host:port that gRPC connects to."""
        return self.address.host_port

    @property
    def in_flight(self) -> int:
        """Number of pending requests."""
        return len(self.pending)

    @property
    def usable(self) -> bool:
        """Whether the server gets requests."""
        return self.up and self.ejected_until is None


@dataclass(frozen=True)
class EndpointCall:
    """A call of a method of Triton's client on an endpoint's connection."""

    endpoint: Endpoint
    method: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Pause:
    """A wait before the next step."""

    seconds: float


@dataclass(frozen=True)
class Turn:
    """A wait until `future` is done, but no longer than `seconds`."""

    future: Future[None]
    seconds: float


@dataclass(frozen=True)
class Concurrently:
    """Several generators of steps that run concurrently. The step ends when all have ended."""

    calls: Sequence[EndpointCalls[None]]


Step: TypeAlias = EndpointCall | Pause | Turn | Concurrently | Callable[[], Any]
"""A call to an endpoint, a wait, several generators, or a blocking function."""
EndpointCalls: TypeAlias = Generator[Step, Any, Answer]
"""A generator of steps that receives the result of each."""


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
