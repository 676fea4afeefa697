"""What all systems get: recordings, read before anything is measured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from nemo_triton.loadtest.recording import Recording, read_recordings


def shuffled_recordings(manifest: Path) -> list[Recording]:
    """All recordings of a manifest in random order, the same each time: clients don't ask by length.

    Raises ManifestError where any line can't be used, and AudioError where any audio can't.
    """
    recordings = read_recordings(manifest)
    return random.Random(0).sample(recordings, len(recordings))


def by_length(recordings: Sequence[Recording]) -> list[Recording]:
    """Shortest first, as those who have all of them at hand batch them."""
    return sorted(recordings, key=lambda recording: len(recording.samples))
