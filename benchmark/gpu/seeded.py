"""Weights that any machine can make again from their names: large random models travel as graphs of a few MB.

numpy only, so that a bare machine can do it. numpy keeps the streams of a seeded Generator over its releases, but for
changes that it announces (NEP 19).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 12
"""Tensors of fewer numbers are not worth it and stay as they are."""


def draw(name: str, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Normal numbers of the deviation that PyTorch gives a layer's weight (1 / sqrt(3 * inputs)), seeded by its name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    numbers = np.random.default_rng(seed).standard_normal(math.prod(shape), np.float32)
    return numbers.reshape(shape) * np.float32(1 / math.sqrt(3 * math.prod(shape[1:])))


def is_drawn(shape: Sequence[int]) -> bool:
    """Whether a parameter of that shape is a weight that is large enough to be drawn."""
    return len(shape) > 1 and math.prod(shape) >= SMALLEST
