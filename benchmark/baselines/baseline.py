"""A package with a model loaded, as worker.py uses it; the modules of adapters/ make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmark.baselines.errors import NotRun

Audio: TypeAlias = NDArray[np.float32]
"""Samples [T] at 16 kHz, full scale 1.0."""

REASON = "not_run.txt"
"""In a model's folder, in place of the model: one line that says why the baseline can't take it."""


@dataclass(frozen=True)
class Baseline:
    """A package with a model loaded.

    distribution: the name by which pip knows the package
    transcribe: the text of each recording, in their order; takes recordings and how many to take at a time
    batches: whether it does take several at a time
    """

    distribution: str
    transcribe: Callable[[Sequence[Audio], int], list[str]]
    batches: bool = True


def model_path(model: Path | None) -> Path:
    """The file or folder that `model` names.

    Raises NotRun where there is none, and where it holds REASON.
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
    """So many at a time, the last of which may be fewer."""
    for start in range(0, len(audio), size):
        yield list(audio[start : start + size])
