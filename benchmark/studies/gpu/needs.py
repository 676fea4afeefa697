"""What a network needs at least of the chip that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Needs:
    """What a network needs for utterances by themselves, as polynomials of their seconds (numpy's order of degrees).

    operations, elements: of its products, see products.ProductCounter; elements are without the weights
    weights: numbers in the operands that do not grow with the audio
    """

    operations: tuple[float, ...]
    elements: tuple[float, ...]
    weights: int

    def operations_of(self, seconds: Sequence[float]) -> float:
        """Of all utterances of these lengths together."""
        return float(np.polyval(self.operations, seconds).sum())

    def elements_of(self, seconds: Sequence[float]) -> float:
        """Of all utterances of these lengths together, without weights."""
        return float(np.polyval(self.elements, seconds).sum())
