"""What a soak test recorded, and whether it is within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from verification.faults.injection import ENDS_WITH, Injected
from verification.quarters import growth_after_warm_up

MAX_MEMORY_GROWTH = 0.02
MAX_P95_GROWTH = 0.10
SETTLE_SECONDS = 5.0
"""Time after a recovery in which latencies are not compared: clients still move requests between servers."""
FEWEST_QUIET = 100
"""Fewest requests in a quarter for a p95."""
STEADY = 0
"""Index of the server that no fault ends: memory is comparable only within one process."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request and its result. Times are those of time.monotonic().

    Attributes:
        model: The recognizer.
        clip: Index of the audio.
        sent: When it was sent.
        answered: When it was answered or failed.
        endpoint: Address of the server that answered; empty if it failed.
        attempts: Number of times that the request was sent.
        wrong: The text if it differs from that of the same audio sent unbatched; None if it does not.
        error: Error of a failed request; None if there is a text.
    """

    model: str
    clip: int
    sent: float
    answered: float
    endpoint: str = ""
    attempts: int = 1
    wrong: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Memory:
    """Memory of all processes of a server at one moment.

    Attributes:
        server: Index of the server.
        start: Number of the server's start.
        at: Time of time.monotonic().
        bytes: Memory in bytes.
    """

    server: int
    start: int
    at: float
    bytes: int


@dataclass
class Soak:
    """All that a soak test recorded.

    Attributes:
        began: Begin of the load, of time.monotonic().
        ended: End of the load.
        requests: All requests.
        faults: All faults.
        memory: Memory of the servers.
    """

    began: float = 0.0
    ended: float = 0.0
    requests: list[Sent] = field(default_factory=list)
    faults: list[Injected] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)


@dataclass(frozen=True)
class Bound:
    """A bound of a soak test.

    Attributes:
        name: What is bounded.
        measured: The measured value, as text.
        limit: The bound, as text.
        holds: Whether the measured value is within it.
    """

    name: str
    measured: str
    limit: str
    holds: bool


def bounds(soak: Soak) -> list[Bound]:
    """All bounds of a soak test. A value that can't be measured is out of bounds."""
    wrong = sum(request.wrong is not None for request in soak.requests)
    failed = sum(request.error is not None for request in soak.requests)
    lasting = sum(fault.recovered is None for fault in soak.faults)
    other_codes = sum(fault.code != ENDS_WITH.get(fault.fault) for fault in soak.faults)
    growth, change = memory_growth(soak.memory), p95_change(soak)
    return [
        Bound("wrong texts", str(wrong), "0", not wrong and bool(soak.requests)),
        Bound("failed requests", str(failed), "0", not failed and bool(soak.requests)),
        Bound("faults without recovery", str(lasting), "0", not lasting and bool(soak.faults)),
        Bound("faults with another exit code", str(other_codes), "0", not other_codes and bool(soak.faults)),
        _at_most("memory growth after warm-up", growth, MAX_MEMORY_GROWTH),
        _at_most("p95 latency, last quarter compared with first", change, MAX_P95_GROWTH),
    ]


def _at_most(name: str, value: float | None, limit: float) -> Bound:
    if value is None:
        return Bound(name, "not measured: too short", f"{limit:+.0%}", False)
    return Bound(name, f"{value:+.1%}", f"{limit:+.0%}", value <= limit)


def memory_growth(samples: Sequence[Memory]) -> float | None:
    """Growth of the steady server's memory from the second to the last quarter of the samples; the first is warm-up.

    Returns:
        The growth as a fraction; None if there are too few samples.
    """
    return growth_after_warm_up([sample.bytes for sample in samples if sample.server == STEADY])


def p95_change(soak: Soak) -> float | None:
    """Change of the p95 latency in quiet times, from the first to the last quarter of the load.

    Returns:
        The change as a fraction; None if a quarter has too few quiet requests.
    """
    first, _, _, last = quiet_p95s(soak)
    return None if first is None or last is None else last / first - 1


def quiet_p95s(soak: Soak) -> list[float | None]:
    """p95 latency in seconds of the quiet requests of each quarter; None if there are too few."""
    edges = np.linspace(soak.began, soak.ended, 5)
    quiet = [request for request in soak.requests if is_quiet(request, soak.faults)]
    quarters = [
        [request.answered - request.sent for request in quiet if begin <= request.sent < end]
        for begin, end in pairwise(edges)
    ]
    return [float(np.percentile(times, 95)) if len(times) >= FEWEST_QUIET else None for times in quarters]


def is_quiet(request: Sent, faults: Sequence[Injected]) -> bool:
    """Whether a request was answered, and no fault or its recovery fell into its time."""
    return request.error is None and not any(
        request.answered >= fault.at and (fault.recovered is None or request.sent <= fault.recovered + SETTLE_SECONDS)
        for fault in faults
    )
