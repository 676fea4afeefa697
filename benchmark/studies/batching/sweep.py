"""Measured passes of batching methods on one set of recordings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from benchmark.baselines.system import Measured

NEMO = "NeMo's transcribe()"
"""The method whose transcripts are the reference for the others."""


@dataclass(frozen=True)
class Sweep:
    """All methods on one set of recordings, at one load.

    Attributes:
        speech: Name of the recordings.
        recordings: Number of recordings.
        audio_seconds: Total duration of the recordings.
        concurrency: Concurrent requests.
        padding: Silence that clients add, relative to the audio, by method; the first method is ours.
        passes: Passes, one per round, each by method.
        not_run: Reasons of methods that were not measured.
    """

    speech: str
    recordings: int
    audio_seconds: float
    concurrency: int
    padding: dict[str, float | None]
    passes: list[dict[str, Measured]]
    not_run: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """The first method."""
        return next(iter(self.padding))

    @property
    def title(self) -> str:
        """Recordings and load."""
        return f"{self.speech}: {concurrent_requests(self.concurrency)}"

    def rates(self, method: str) -> list[float]:
        """RTFx of each round."""
        return [self.audio_seconds / measured[method].seconds for measured in self.passes]

    def speedups(self, method: str) -> list[float]:
        """Speedup of our method over `method` in each round."""
        return [measured[method].seconds / measured[self.ours].seconds for measured in self.passes]

    def latency(self, method: str, rank: int) -> float | None:
        """A percentile of the latencies of all rounds, in seconds; None if the method has none."""
        latencies = [latency for measured in self.passes for latency in measured[method].latencies]
        return float(np.percentile(latencies, rank)) if latencies else None

    def equal_texts(self, method: str) -> int | None:
        """Number of recordings with NeMo's transcript in every round; None if NeMo is not measured."""
        if NEMO not in self.padding:
            return None
        return sum(
            all(measured[method].texts[audio] == text for measured in self.passes)
            for audio, text in self.passes[0][NEMO].texts.items()
        )


def concurrent_requests(concurrency: int) -> str:
    """The load in words."""
    return "one request at a time" if concurrency == 1 else f"{concurrency} concurrent requests"
