"""Audio of a soak test: speech of all lengths, silence, and none."""

from __future__ import annotations

import numpy as np

from nemo_triton.audio import Samples
from nemo_triton.contract import SAMPLE_RATE
from verification.attack.cases import clip

SHORTEST_SECONDS = 0.1
SILENCE_SECONDS = 3


def make_clips(speech: Samples, seed: int, *, count: int, longest: float) -> list[Samples]:
    """Cut clips of lengths in geometric progression, and add silence and a clip without samples.

    Args:
        speech: int16 or float32 [T] at 16 kHz to cut from; repeated if it is short.
        seed: Seed of the cuts.
        count: Number of clips with speech.
        longest: Length of the longest, in seconds.
    """
    rng = np.random.default_rng(seed)
    lengths = np.geomspace(SHORTEST_SECONDS, longest, count) * SAMPLE_RATE
    return [
        *(clip(speech, rng, int(length)) for length in lengths),
        np.zeros(SILENCE_SECONDS * SAMPLE_RATE, np.int16),
        np.zeros(0, np.int16),
    ]
