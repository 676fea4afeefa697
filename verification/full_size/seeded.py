"""Weights that any machine can draw again from their names: large random models travel as graphs of a few MB.

Needs numpy only, so that a bare machine can do it. numpy keeps the streams of a seeded Generator over its releases,
except for changes that it announces (NEP 19).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 12
"""Numbers in the smallest tensor that is drawn; smaller ones are carried."""


def draw(name: str, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Draw a weight: normal, with the deviation of a layer that PyTorch initialised, 1 / sqrt(3 * inputs).

    Args:
        name: of the weight; seeds the numbers
        shape: of the weight, outputs first

    Returns:
        float32 [shape]
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    numbers = np.random.default_rng(seed).standard_normal(math.prod(shape), np.float32)
    return numbers.reshape(shape) * np.float32(1 / math.sqrt(3 * math.prod(shape[1:])))


def is_drawn(shape: Sequence[int]) -> bool:
    """Whether a parameter of that shape is a weight that is large enough to be drawn."""
    return len(shape) > 1 and math.prod(shape) >= SMALLEST
