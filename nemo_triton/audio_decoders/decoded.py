"""The header of a file, and its samples before channels and rate are changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is known of a file before it is decoded.

    Attributes:
        rate: Samples per second.
        channels: Number of channels.
        is_16_bit: Whether 16-bit integers represent its samples exactly.
    """

    rate: int
    channels: int
    is_16_bit: bool


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The samples of a file, at its own sample rate.

    Attributes:
        samples: int16 [T, channels] if the file has no more precision; else float32, full scale 1.0.
        rate: Samples per second.
        skipped: Samples per channel before `samples` that were decoded and dropped: they are before the segment.
        problem: Reason why there may be fewer samples than were recorded; None if the file seems complete.
        note: What the user may not expect, such as which of two audio streams was decoded; None if nothing.
    """

    samples: NDArray[np.int16 | np.float32]
    rate: int
    skipped: int = 0
    problem: str | None = None
    note: str | None = None

    @property
    def end(self) -> int:
        """Samples per channel from the start of the file to the last of `samples`."""
        return self.skipped + len(self.samples)
