"""Values at the edges of types, for mutations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")

INTEGERS = (0, 1, -1, 2, 16, 17, 255, 2**15, 2**16, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1, 2**62, 2**63 - 1)
STRINGS = ("", " ", "\0", "%s%n", "../../etc/passwd", "é\u2028\U0001f600", "-1", "1", "NaN", "x" * 70_000)
FLOATS = (0.0, -1.0, 0.5, 1e308, float("nan"), float("inf"), -float("inf"), 5e-324)


def integer(rng: random.Random, *, bits: int, signed: bool) -> int:
    """An integer that fits the type; at its edges half of the time."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if rng.random() < 0.5:
        edges: list[int] = [low, high, *(value for value in INTEGERS if low <= value <= high)]
        return rng.choice(edges)
    return rng.randint(low, high)


def text(rng: random.Random, known: Sequence[str]) -> str:
    """A string: a known name, an edge case, or a changed known name."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(known)
    if kind < 0.8:
        return rng.choice(STRINGS)
    name = rng.choice(known)
    place = rng.randrange(len(name) + 1)
    return name[:place] + rng.choice(("\0", "_", " ", "ß", "")) + name[place + rng.randrange(2) :]


def corrupted(content: bytes, rng: random.Random) -> bytes:
    """Cut, extend, repeat or change bytes."""
    place = rng.randrange(len(content) + 1)
    return rng.choice(
        (
            content[:place],
            content + rng.randbytes(rng.randint(1, 9)),
            content[:place] + rng.randbytes(rng.randint(1, 9)) + content[place + rng.randint(0, 9) :],
            content[:place] + content[place : place + 64] + content[place:],
            b"",
            content * 2,
        )
    )


def edge_values(dtype: np.dtype[Any], rng: random.Random, count: int) -> NDArray[Any]:
    """`count` values at the edges of a numeric type."""
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        edges = [np.nan, np.inf, -np.inf, float(limits.max), float(limits.tiny), -0.0, 1.0]
        return np.array(rng.choices(edges, k=count), dtype)
    bounds = np.iinfo(dtype)
    return np.array(rng.choices([bounds.min, bounds.max, -1 if bounds.min else 0, 0, 1, 100], k=count), dtype)
