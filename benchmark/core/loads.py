"""Pick loads from bench.py's JSON, and choose the number of requests of a load."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmark.core.constants import COMPARED_AT


def fastest(loads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The load with the highest throughput."""
    return max(loads, key=lambda load: load["rtfx"])


def is_compared(load: dict[str, Any]) -> bool:
    """Whether this is the closed loop at which models are compared."""
    return bool(load["load"] == {"concurrency": COMPARED_AT})


def compared_load(loads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The closed loop at which models are compared."""
    return next(load for load in loads if is_compared(load))


def whole_passes(requests: float, utterances: int) -> int:
    """Round `requests` up to whole passes, so that each utterance is sent equally often."""
    return max(math.ceil(requests / utterances), 1) * utterances
