"""Random weights that any machine can generate again from their names.

Large random models then travel as graphs of a few MB. Needs only numpy. numpy keeps the streams of a seeded Generator
across releases, except for announced changes (NEP 19).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SMALLEST = 1 << 12
"""Elements of the smallest tensor that is drawn; smaller tensors stay in the graph."""


def draw(name: str, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Draw a weight from a normal distribution with PyTorch's initial deviation, 1 / sqrt(3 * inputs).

    Args:
        name: Name of the weight, which is the seed.
        shape: Shape of the weight, outputs first.

    Returns:
        float32 [shape].
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    numbers = np.random.default_rng(seed).standard_normal(math.prod(shape), np.float32)
    return numbers.reshape(shape) * np.float32(1 / math.sqrt(3 * math.prod(shape[1:])))


def is_drawn(shape: Sequence[int]) -> bool:
    """Whether a parameter of that shape is a weight that is large enough to draw."""
    return len(shape) > 1 and math.prod(shape) >= SMALLEST
