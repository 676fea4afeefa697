"""Signals for audio files, and what is heard of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_triton.contract import SAMPLE_RATE


def tone(rate: int, duration: float = 1.0, hertz: float = 440.0) -> NDArray[np.float64]:
    """A sine of half scale, float [T]."""
    wave: NDArray[np.float64] = np.sin(2 * np.pi * hertz * np.arange(int(rate * duration)) / rate)
    return 0.5 * wave


def loudest_hertz(samples: NDArray[Any]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / len(samples)


def noise(count: int = 16001) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-32768, 32768, count, dtype=np.int16)
