"""Tuning of graphs for hardware. It changes speed and memory, never results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Target = Literal["cpu", "gpu"]
"""Hardware that an export is tuned for. Each export runs on CPUs and GPUs, with the same results."""


@dataclass(frozen=True)
class Tuning:
    """Settings of how a stage divides its work.

    Attributes:
        pass_seconds: Cost of one more pass of the network, in seconds of padded audio that cost the same (docs/gpu.md).
            A bucket ends where its padding would cost more.
        seconds_at_once: Longest bucket, in seconds of audio with padding; a single item may be longer.
        scores_at_once: Attention scores in memory at a time, over all items and heads. A few float32 tensors have this
            size. Ten minutes of audio have 15,000 frames, so NeMo holds 225 million scores per head.
        convolutions: Whether convolutions stay Conv nodes. On a GPU, cuDNN plans each of them again for every new
            shape, so there they become matrix products, see `without_convolutions`. Conformer's then keep the time
            before the channels, and its feed-forward layers have their factor in a weight.
        rotated_attention: Whether Conformer's attention is one product of longer queries and keys, see
            `with_rotated_attention`. That is more work in fewer and larger steps.
    """

    pass_seconds: float
    seconds_at_once: float
    scores_at_once: int
    convolutions: bool
    rotated_attention: bool

    def up_to(self, max_seconds: int) -> Tuning:
        """The tuning for audio of at most `max_seconds`: on a CPU, no bucket is larger than the longest item."""
        if not self.convolutions:
            return self  # On a GPU, passes over small buckets cost more than the memory.
        return replace(self, seconds_at_once=min(self.seconds_at_once, max_seconds))


CPU = Tuning(
    pass_seconds=0.6,
    seconds_at_once=600.0,
    scores_at_once=1 << 23,
    convolutions=True,
    rotated_attention=False,
)
GPU = Tuning(
    pass_seconds=150.0,
    seconds_at_once=600.0,
    scores_at_once=1 << 27,
    convolutions=False,
    rotated_attention=True,
)

TUNINGS: dict[Target, Tuning] = {"cpu": CPU, "gpu": GPU}
