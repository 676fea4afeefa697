"""Limits of what is read, and of what counts as complete."""

from __future__ import annotations

from pathlib import Path

from nemo_triton.errors import AudioError

LARGEST_SAMPLES = 2**29
"""Samples in a file, all channels together, and after resampling: 9 hours of mono at 16 kHz, 2 GiB as float32.

A small file can claim more, or become more, than fits in memory.
"""


def too_large(path: Path) -> AudioError:
    """Return the error for a larger file."""
    return AudioError(f"{path}: has more than {LARGEST_SAMPLES:,} samples; split it")


_MISSING_SECONDS, _MISSING_FRACTION = 0.25, 0.02
"""How much shorter than its header says audio may be; both have to be exceeded."""


def is_short(seconds: float, *, of: float) -> bool:
    """Whether audio is clearly shorter than the `of` seconds that its header says."""
    return of - seconds > max(_MISSING_SECONDS, _MISSING_FRACTION * of)
