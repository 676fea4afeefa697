"""Training data: utterances of a manifest, perturbed in speed and noise, as features in memory, and batches."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from nemo_triton import manifest
from nemo_triton.audio import as_float
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import ManifestError
from nemo_triton.utterances import load_utterance

FRAMES_PER_SECOND = 100


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest.

    Attributes:
        samples: float32 [samples] in [-1, 1), 16 kHz.
        text: The transcript.
    """

    samples: np.ndarray
    text: str


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes:
        features: float16 [mels, frames], normalized log-mel features.
        labels: int64 [labels], labels of the transcript.
    """

    features: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """A padded batch.

    Attributes:
        features: float32 [B, mels, longest].
        lengths: int64 [B], frames of each item.
        labels: int64 [N], labels of all items end to end.
        label_lengths: int64 [B], labels of each item.
    """

    features: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    label_lengths: torch.Tensor


def read_manifest(path: Path) -> list[Utterance]:
    """Read the utterances of a manifest with transcripts.

    Raises:
        ManifestError: A line can't be used.
        AudioError: A recording can't be read.
    """
    listed = manifest.read_manifest(path, text_required=True)
    if listed.problems:
        raise ManifestError(listed.problems[0])
    return [
        Utterance(as_float(load_utterance(utterance)), utterance.text)
        for utterance in listed.utterances
        if utterance.text is not None
    ]


def perturb(samples: np.ndarray, rng: random.Random) -> np.ndarray:
    """Change the speed of samples float32 [samples], and add noise.

    Source: Ko et al. 2015, "Audio augmentation for speech recognition".
    """
    faster = soxr.resample(samples, SAMPLE_RATE, SAMPLE_RATE / rng.uniform(0.87, 1.13), quality="LQ")
    noise = np.random.default_rng(rng.randrange(2**32)).standard_normal(len(faster)).astype(np.float32)
    level = float(np.sqrt(np.mean(faster**2))) * 10 ** (-rng.uniform(12, 45) / 20)
    perturbed: np.ndarray = faster + level * noise
    return perturbed


@torch.no_grad()
def features_of(model: Any, samples: np.ndarray) -> torch.Tensor:
    """Features of one utterance by the model's own front end, float16 [mels, frames]."""
    signal = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))[None]
    features, length = model.preprocessor(input_signal=signal, length=torch.tensor([signal.shape[1]]))
    log_mel: torch.Tensor = features[0, :, : int(length)].half()
    return log_mel


def batches(examples: Sequence[Example], seconds: float, rng: random.Random) -> Iterator[Batch]:
    """All examples once, in batches of similar length.

    Args:
        examples: Examples to batch.
        seconds: Largest duration of padded audio per batch.
        rng: Source of randomness.
    """
    order = sorted(examples, key=lambda example: example.features.shape[1] * rng.uniform(0.85, 1.15))
    buckets: list[list[Example]] = [[]]
    longest = 0
    for example in order:
        longest = max(longest, example.features.shape[1])
        if buckets[-1] and longest * (len(buckets[-1]) + 1) > seconds * FRAMES_PER_SECOND:
            buckets.append([])
            longest = example.features.shape[1]
        buckets[-1].append(example)
    rng.shuffle(buckets)
    yield from map(collate, buckets)


def collate(examples: Sequence[Example]) -> Batch:
    lengths = torch.tensor([example.features.shape[1] for example in examples])
    padded = torch.zeros(len(examples), examples[0].features.shape[0], int(lengths.max()))
    for row, example in enumerate(examples):
        padded[row, :, : lengths[row]] = example.features.float()
    label_lengths = torch.tensor([len(example.labels) for example in examples])
    return Batch(padded, lengths, torch.cat([example.labels for example in examples]), label_lengths)
