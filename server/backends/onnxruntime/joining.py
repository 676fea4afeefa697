"""Join arrays of several requests in memory that is kept between batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

KEPT_BYTES = 16 << 20
"""Largest kept memory of one input, enough for features of 500 s. Larger batches get new memory and give it back."""


class Joiner:
    """Joins arrays along their first axis.

    New memory costs a page fault for each 4 KiB: for a batch of recordings, more time than the copy itself. The result
    is valid until the next join with the same name.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Array] = {}

    def join(self, name: str, arrays: Sequence[Array]) -> Array:
        """Join arrays of one type that differ only in their first axis; a single array is returned as it is.

        Args:
            name: Input that the arrays belong to.
            arrays: At least one array.
        """
        first = arrays[0]
        if len(arrays) == 1:
            return first
        rows = sum(len(array) for array in arrays)
        shape = (rows, *first.shape[1:])
        count = int(np.prod(shape))
        if first.dtype == object or count * first.dtype.itemsize > KEPT_BYTES:
            return np.concatenate(arrays)
        kept = self._kept.get(name)
        if kept is None or kept.dtype != first.dtype or kept.size < count:
            self._kept.pop(name, None)
            kept = None  # Free it before the larger one is allocated.
            kept = self._kept[name] = np.empty(count, first.dtype)
        return np.concatenate(arrays, out=kept[:count].reshape(shape))
