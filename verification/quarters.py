"""Compare the quarters of a series of measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

_QUARTERS = 4


def quarters(values: Sequence[int]) -> list[Sequence[int]]:
    """The quarters of a series, of equal length: up to three first values are left out. Empty if there are too few."""
    length = len(values) // _QUARTERS
    begin = len(values) - _QUARTERS * length
    return [values[at : at + length] for at in range(begin, len(values), length)] if length else []


def growth_after_warm_up(values: Sequence[int], statistic: Callable[[Sequence[int]], float] = median) -> float | None:
    """Growth of a statistic from the second quarter to the last, because the first quarter is warm-up.

    Returns:
        The growth as a fraction; None if there are too few values or the second quarter's statistic is 0.
    """
    parts = quarters(values)
    before = statistic(parts[1]) if parts else 0
    return statistic(parts[-1]) / before - 1 if before else None
