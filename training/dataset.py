"""Utterances of a manifest as features in memory, perturbed in speed and noise, and batches of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

SAMPLE_RATE = 16_000
FRAMES_PER_SECOND = 100


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest: float32 samples at 16 kHz and the words spoken."""

    samples: np.ndarray
    text: str


@dataclass(frozen=True)
class Example:
    """Normalised log-mel, float16 [mels, frames], and the labels to find in it, int64 [characters]."""

    features: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """features float32 [B, mels, longest], lengths int64 [B], labels laid end to end, label_lengths int64 [B]."""

    features: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    label_lengths: torch.Tensor


def read_manifest(path: Path) -> list[Utterance]:
    """NeMo JSON lines; audio paths are relative to the manifest."""
    utterances = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        samples, rate = soundfile.read(path.parent / row["audio_filepath"], dtype="float32", always_2d=True)
        utterances.append(Utterance(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE), row["text"]))
    return utterances


def perturb(samples: np.ndarray, rng: random.Random) -> np.ndarray:
    """Another speed (Ko et al. 2015, "Audio augmentation for speech recognition") and some noise."""
    faster = soxr.resample(samples, SAMPLE_RATE, SAMPLE_RATE / rng.uniform(0.87, 1.13), quality="LQ")
    noise = np.random.default_rng(rng.randrange(2**32)).standard_normal(len(faster)).astype(np.float32)
    level = float(np.sqrt(np.mean(faster**2))) * 10 ** (-rng.uniform(12, 45) / 20)
    perturbed: np.ndarray = faster + level * noise
    return perturbed


@torch.no_grad()
def features_of(model: Any, samples: np.ndarray) -> torch.Tensor:
    """The model's own log-mel of one utterance, float16 [mels, frames]."""
    signal = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))[None]
    features, length = model.preprocessor(input_signal=signal, length=torch.tensor([signal.shape[1]]))
    half: torch.Tensor = features[0, :, : int(length)].half()
    return half


def batches(examples: Sequence[Example], seconds: float, rng: random.Random) -> Iterator[Batch]:
    """All examples once, in batches of like length with at most `seconds` of padded audio each."""
    order = sorted(examples, key=lambda example: example.features.shape[1] * rng.uniform(0.85, 1.15))
    groups: list[list[Example]] = [[]]
    longest = 0
    for example in order:
        longest = max(longest, example.features.shape[1])
        if groups[-1] and longest * (len(groups[-1]) + 1) > seconds * FRAMES_PER_SECOND:
            groups.append([])
            longest = example.features.shape[1]
        groups[-1].append(example)
    rng.shuffle(groups)
    yield from map(collate, groups)


def collate(examples: Sequence[Example]) -> Batch:
    lengths = torch.tensor([example.features.shape[1] for example in examples])
    padded = torch.zeros(len(examples), examples[0].features.shape[0], int(lengths.max()))
    for row, example in enumerate(examples):
        padded[row, :, : lengths[row]] = example.features.float()
    label_lengths = torch.tensor([len(example.labels) for example in examples])
    return Batch(padded, lengths, torch.cat([example.labels for example in examples]), label_lengths)
