"""Batches of utterances of LibriSpeech's lengths in random order, as a server gets them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.studies.gpu.mixed_speech import draw_lengths, join
from nemo_triton.audio import Samples
from nemo_triton.contract import SAMPLE_RATE, SAMPLES

Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Batch:
    """Utterances of one batch.

    Attributes:
        samples: All utterances end to end, int16 [sum of lengths] at 16 kHz.
        lengths: Samples of each utterance, int32 [B, 1].
    """

    samples: Int16
    lengths: Int32

    @property
    def seconds(self) -> float:
        """Duration of all utterances together."""
        return float(self.lengths.sum()) / SAMPLE_RATE

    def feeds(self) -> dict[str, Any]:
        """Inputs of a feature stage, as Triton passes them."""
        shape, length = SAMPLES.shape.name, SAMPLES.length.name
        return {SAMPLES.name: self.samples, shape: self.lengths, length: self.lengths}


def make_batch(signals: Sequence[Samples]) -> Batch:
    """Make a batch of utterances, int16 [T] each."""
    return Batch(np.concatenate(signals), np.array([[len(signal)] for signal in signals], np.int32))


def draw_batches(pool: Sequence[Samples], size: int, count: int) -> Iterator[Batch]:
    """Draw batches of utterances; the same arguments give the same batches.

    Args:
        pool: Recordings that utterances are joined from, int16 [T] each.
        size: Utterances per batch.
        count: Number of batches.
    """
    generator = random.Random(size)
    for number in range(count):
        yield make_batch([join(pool, seconds, generator) for seconds in batch_lengths(size, number)])


def batch_lengths(size: int, number: int) -> list[float]:
    """Durations in seconds of the utterances of batch `number`; PyTorch is measured with the same."""
    return draw_lengths(size, seed=1000 * size + number)
