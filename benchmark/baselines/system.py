"""What is asked of every system, and what is measured of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmark.baselines.errors import NotRun
from nemo_triton.loadtest.recording import Recording

OFFLINE_BATCH = 16
"""Recordings that those who have all of them at hand take at a time."""
WARM_UP_AT_ONCE = 2


@dataclass(frozen=True)
class Measured:
    """One pass over all recordings.

    seconds: of the wall clock
    texts: by audio file
    latencies: seconds from asking to the answer, of each recording; empty where all are asked for at once
    mean_batch: recordings that the model took at a time
    """

    seconds: float
    texts: dict[str, str]
    latencies: list[float] = field(default_factory=list)
    mean_batch: float | None = None


class System(ABC):
    """One system, to be measured inside its `with` block.

    name: as tables show it
    padding: the share of silence that it adds to the audio before the model sees it
    """

    name: str
    padding: float | None = None

    def __enter__(self) -> System:
        """Raises NotRun where the system can't start."""
        return self

    def __exit__(self, *failure: object) -> None:
        return None

    @abstractmethod
    def measure(self, recordings: Sequence[Recording], at_once: int) -> Measured:
        """Transcribe all of them, so many at a time.

        Raises NotRun where the system can't.
        """


def start(
    systems: Sequence[System], recordings: Sequence[Recording], stack: ExitStack
) -> tuple[list[System], dict[str, str]]:
    """Enter all systems, to be left with `stack`, and warm them up by a pass over the recordings.

    Gives those that run and, by name, why the others don't.
    """
    running, not_run = [], {}
    for system in systems:
        with ExitStack() as attempt:
            try:
                attempt.enter_context(system)
                system.measure(recordings, WARM_UP_AT_ONCE)
            except NotRun as reason:
                not_run[system.name] = str(reason)
            else:
                running.append(system)
                stack.push(attempt.pop_all())
    return running, not_run


def mean_batch(recordings: int, size: int) -> float:
    """Of batches of so many, the last of which may be smaller."""
    return recordings / math.ceil(recordings / size)
