"""Recordings for all systems, read before the measurement starts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from nemo_triton.loadtest.recording import Recording, read_recordings


def shuffled_recordings(manifest: Path) -> list[Recording]:
    """Read a manifest's recordings in random order, since clients do not send them by length. The seed is fixed.

    Raises:
        ManifestError: A line can't be used.
        AudioError: An audio file can't be used.
    """
    recordings = read_recordings(manifest)
    return random.Random(0).sample(recordings, len(recordings))


def by_length(recordings: Sequence[Recording]) -> list[Recording]:
    """Sort recordings, shortest first: the best order for systems that batch a whole list."""
    return sorted(recordings, key=lambda recording: len(recording.samples))
