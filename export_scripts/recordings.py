"""Speech that an export is compared on or learns from, and the trace that it leaves in the report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Trace:
    """Which recordings they were, for whoever reads the figures.

    sha256: of the sorted SHA-256 digests, in hexadecimal, of each one's int16 samples; the order does not count
    """

    source: str
    recordings: int
    seconds: float
    sha256: str


@dataclass(frozen=True)
class Recordings:
    """int16 signals [T] at 16 kHz.

    source: where they are from, fit for a report that others read; names: one for each signal
    """

    source: str = "none"
    signals: tuple[np.ndarray, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(map(len, self.signals)) / SAMPLE_RATE

    @property
    def digests(self) -> list[str]:
        return [hashlib.sha256(signal.astype("<i2").tobytes()).hexdigest() for signal in self.signals]

    def first(self, count: int | None) -> Recordings:
        """So many of them; all where `count` is None."""
        return Recordings(self.source, self.signals[:count], self.names[:count])

    def count_in(self, others: Recordings) -> int:
        """How many of them are also among `others`, by their samples."""
        there = set(others.digests)
        return sum(digest in there for digest in self.digests)

    def trace(self) -> Trace:
        digest = hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()
        return Trace(self.source, len(self.signals), round(self.seconds, 3), digest)


NO_RECORDINGS = Recordings()
