"""The interface of all measured systems."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmark.baselines.errors import NotRun
from nemo_triton.loadtest.recording import Recording

OFFLINE_BATCH = 16
"""Largest batch of systems that get the whole list of recordings."""
WARM_UP_PASSES = 2
"""Passes in which onnxruntime's memory still grows. Fetching it from the system can take a third of a pass."""


@dataclass(frozen=True)
class Measured:
    """Result of one pass over all recordings.

    Attributes:
        seconds: Wall-clock time of the pass.
        texts: Transcripts, by audio file.
        latencies: Seconds from request to response, per recording; empty if the system gets the whole list.
        mean_batch: Mean recordings per batch of the model.
    """

    seconds: float
    texts: dict[str, str]
    latencies: list[float] = field(default_factory=list)
    mean_batch: float | None = None


class System(ABC):
    """A system that is measured inside its `with` block.

    Attributes:
        name: Name in tables.
        padding: Silence that clients add, as a fraction of the audio's duration; None if they add none.
    """

    name: str
    padding: float | None = None

    def __enter__(self) -> System:
        """Start the system.

        Raises:
            NotRun: The system can't start.
        """
        return self

    def __exit__(self, *failure: object) -> None:
        return None

    @abstractmethod
    def measure(self, recordings: Sequence[Recording], concurrency: int) -> Measured:
        """Transcribe all recordings.

        Args:
            recordings: Recordings to transcribe.
            concurrency: Concurrent requests, or the batch size of systems that get the whole list.

        Raises:
            NotRun: The system failed.
        """


def start(
    systems: Sequence[System], recordings: Sequence[Recording], stack: ExitStack, *, concurrency: int
) -> tuple[list[System], dict[str, str]]:
    """Start all systems, and warm each up.

    Args:
        systems: Systems to start.
        recordings: Recordings of the warm-up passes.
        stack: Stack that stops the systems when it is closed.
        concurrency: As for `System.measure`.

    Returns:
        The running systems, and the reasons of the others by name.
    """
    running, not_run = [], {}
    for system in systems:
        with ExitStack() as attempt:
            try:
                attempt.enter_context(system)
                for _ in range(WARM_UP_PASSES):
                    system.measure(recordings, concurrency)
            except NotRun as reason:
                not_run[system.name] = str(reason)
            else:
                running.append(system)
                stack.push(attempt.pop_all())
    return running, not_run


def mean_batch(recordings: int, size: int) -> float:
    """Mean size of batches of `size`, the last of which may be smaller."""
    return recordings / math.ceil(recordings / size)
