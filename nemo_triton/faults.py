"""Whose fault a failed request is. This decides whether it is retried, and whether its server is ejected."""

from __future__ import annotations

import re
from enum import Enum, auto

from tritonclient.utils import InferenceServerException

from nemo_triton.contract import NOT_FINITE, TOO_LONG, TOO_MANY_TOKENS


class Fault(Enum):
    """The cause of a failed request.

    Attributes:
        REQUEST: The request. Every server would refuse it.
        DEADLINE: The deadline passed.
        QUEUE: A queue of the server is full, or the request waited in it longer than the model allows.
        OUTAGE: The server is down, shutting down or hangs, or one of its model processes died.
        SERVER: The server failed to compute the request. Only another server shows whether the request is the cause.
    """

    REQUEST = auto()
    DEADLINE = auto()
    QUEUE = auto()
    OUTAGE = auto()
    SERVER = auto()


LIVE_OUTAGES = ("StatusCode.NOT_FOUND", "StatusCode.CANCELLED")
"""Outages of servers that still answer: a model was unloaded, or the server is shutting down."""
OUTAGES = ("StatusCode.UNAVAILABLE", *LIVE_OUTAGES)
"""The server is down, shutting down (Triton unloads its models first), or hangs."""

_SERVER_FAILURES = (
    "StatusCode.INTERNAL",
    "StatusCode.UNKNOWN",
    "StatusCode.ABORTED",
    "StatusCode.DATA_LOSS",
    "StatusCode.FAILED_PRECONDITION",
)
NO_ROOM = "no room before the deadline"
"""Message of this client, with status UNAVAILABLE, for a request that it gave up without sending it."""
_QUEUE_REFUSALS = ("Exceeds maximum queue size", "Request timeout expired", NO_ROOM)
"""The first two are Triton's for max_queue_size and default_timeout_microseconds, both with status UNAVAILABLE."""
_DEAD_PROCESS = "Stub process"
"""Triton's Python backend, status INTERNAL: "Stub process 'NAME' is not healthy"."""
_STAGE_FAILED = "in ensemble "
"""How Triton's errors of a stage begin. Its inputs come from other stages, so the client is not at fault if they are
invalid: Triton 2.51 can lose a tensor while it ends."""
_MODEL_REFUSALS = re.compile(rf"Name:'([^']*(?:{TOO_LONG}|{NOT_FINITE}|{TOO_MANY_TOKENS})[^']*)'")
"""What stages `audio` and the RNNT decoder refuse, with status INTERNAL: Triton gives a model no other."""


def model_refusal(message: str) -> str | None:
    """Return why a model refused a request, without onnxruntime's text around it; None if the model did not refuse."""
    match = _MODEL_REFUSALS.search(message)
    return match[1] if match else None


def fault_of(error: InferenceServerException) -> Fault:
    """Return the cause of a failed request.

    Args:
        error: The error of Triton's client.
    """
    status, message = error.status(), error.message() or ""
    if status == "StatusCode.UNAVAILABLE" and any(refusal in message for refusal in _QUEUE_REFUSALS):
        return Fault.QUEUE
    if status in OUTAGES or _DEAD_PROCESS in message:
        return Fault.OUTAGE
    if status == "StatusCode.DEADLINE_EXCEEDED":
        return Fault.DEADLINE
    if model_refusal(message):
        return Fault.REQUEST
    return Fault.SERVER if status in _SERVER_FAILURES or message.startswith(_STAGE_FAILED) else Fault.REQUEST
