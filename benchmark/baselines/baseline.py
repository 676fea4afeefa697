"""The interface between worker.py and the packages in adapters/."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmark.baselines.errors import NotRun
from nemo_triton.manifest import Utterance

Audio: TypeAlias = NDArray[np.float32]
"""Samples [T] at 16 kHz, full scale 1.0."""

REASON = "not_run.txt"
"""File in a model's folder, in place of the model: one line that says why the baseline can't run it."""


@dataclass(frozen=True)
class Baseline:
    """A package with a loaded model.

    Attributes:
        distribution: Name of the package, as pip knows it.
        transcribe: Function that takes recordings and a batch size, and returns the transcripts in order.
        batches: Whether it can transcribe several recordings in one batch.
        read: The package's own reader of recordings; None if it takes arrays, which nemo_triton reads.
    """

    distribution: str
    transcribe: Callable[[Sequence[Audio], int], list[str]]
    batches: bool = True
    read: Callable[[Utterance], Audio] | None = None


def model_path(model: Path | None) -> Path:
    """Check the path of a model.

    Raises:
        NotRun: No model is given, it does not exist, or its folder has the file REASON.
    """
    if model is None:
        raise NotRun("no model")
    if not model.exists():
        raise NotRun(f"no model: {model} does not exist")
    reason = model / REASON
    if reason.is_file():
        raise NotRun(reason.read_text(encoding="utf-8").strip())
    return model


def in_batches(audio: Sequence[Audio], size: int) -> Iterator[list[Audio]]:
    """Split recordings into batches. The last batch may be smaller."""
    for start in range(0, len(audio), size):
        yield list(audio[start : start + size])
