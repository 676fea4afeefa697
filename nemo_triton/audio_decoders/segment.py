"""A part of a file, by times."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a file. Its times are rounded down to samples of the file, as NeMo's AudioSegment does.

    Attributes:
        offset: Start in seconds, from 0.
        duration: Length in seconds; None or 0 reaches to the end of the file.
    """

    offset: float = 0.0
    duration: float | None = None

    def __bool__(self) -> bool:
        """Whether it is less than the whole file."""
        return bool(self.offset or self.duration)

    def start(self, rate: int) -> int:
        """Its first sample, at `rate` samples per second."""
        return _sample_at(self.offset, rate)

    def stop(self, rate: int) -> int:
        """The sample after its last; the largest number if it reaches to the end of the file."""
        return self.start(rate) + _sample_at(self.duration, rate) if self.duration else sys.maxsize


WHOLE = Segment()


def _sample_at(seconds: float, rate: int) -> int:
    # A float can't count the samples of times such as 1e305 s; they get the largest number.
    return int(min(seconds * rate, sys.maxsize))
