"""Faults of servers that say that they are ready, for the stand-in of faulty_server.py."""

from __future__ import annotations

import threading
from typing import Any

import grpc

from verification.faults.faulty_server import Fault

_HANG_SECONDS = 600.0
SLOW_ERROR_SECONDS = 5.0


def wrong_status(number: int, context: Any) -> None:
    """Fail immediately, as a broken stage does."""
    context.abort(grpc.StatusCode.INTERNAL, "in ensemble 'coffee_ctc', broken")


def unavailable(number: int, context: Any) -> None:
    """Fail immediately, as a server that shuts down does."""
    context.abort(grpc.StatusCode.UNAVAILABLE, "out of order")


def half(number: int, context: Any) -> None:
    """Fail every second recognition."""
    if number % 2:
        wrong_status(number, context)


def fail_after(seconds: float) -> Fault:
    """A fault that fails each recognition after some seconds."""

    def slow_error(number: int, context: Any) -> None:
        threading.Event().wait(seconds)
        wrong_status(number, context)

    return slow_error


def hang(number: int, context: Any) -> None:
    """Never answer, until the client leaves."""
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(_HANG_SECONDS)


FAULTS: dict[str, Fault] = {
    "INTERNAL immediately": wrong_status,
    "UNAVAILABLE immediately": unavailable,
    f"INTERNAL after {SLOW_ERROR_SECONDS:g} s": fail_after(SLOW_ERROR_SECONDS),
    "no answer": hang,
    "INTERNAL for every second request": half,
}
"""The faults that sick_server.py measures, by name."""
