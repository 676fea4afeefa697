"""What a graph is tuned for: it decides speed and memory, never a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Target = Literal["cpu", "gpu"]
"""What an export is for. Either is served on both, with the same results."""


@dataclass(frozen=True)
class Tuning:
    """How a stage cuts its work into pieces.

    pass_seconds: cost of one more pass of the network, as the seconds of padded audio that cost as much (docs/gpu.md).
        A bucket of items of similar length ends where its padding would cost more than that.
    seconds_at_once: audio in one bucket, padding included; one item may be longer
    scores_at_once: attention scores in memory at a time, of all items and heads together; there are a few such float32
        tensors. Ten minutes of audio have 15,000 frames, so 225 million scores a head, and NeMo holds them all.
    convolutions: whether convolutions stay Conv nodes. On a GPU each of them makes cuDNN look for a plan whenever the
        shape of a batch is new, so there they become products of matrices, see `without_convolutions`.
    """

    pass_seconds: float
    seconds_at_once: float
    scores_at_once: int
    convolutions: bool


CPU = Tuning(pass_seconds=0.6, seconds_at_once=600.0, scores_at_once=1 << 23, convolutions=True)
GPU = Tuning(pass_seconds=300.0, seconds_at_once=600.0, scores_at_once=1 << 27, convolutions=False)

TUNINGS: dict[Target, Tuning] = {"cpu": CPU, "gpu": GPU}
