"""What all systems get: recordings, read before anything is measured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from nemo_triton.audio import load_audio
from nemo_triton.errors import ManifestError
from nemo_triton.loadtest.recording import Recording
from nemo_triton.manifest import read_manifest


def read_recordings(manifest: Path) -> list[Recording]:
    """All recordings of a manifest in random order, the same each time: clients don't ask by length.

    Raises ManifestError where any line can't be used, and AudioError where any audio can't.
    """
    listed = read_manifest(manifest)
    if listed.problems:
        raise ManifestError(listed.problems[0])
    recordings = [Recording(utterance, load_audio(utterance.audio)) for utterance in listed.utterances]
    return random.Random(0).sample(recordings, len(recordings))


def by_length(recordings: Sequence[Recording]) -> list[Recording]:
    """Shortest first, as those who have all of them at hand batch them."""
    return sorted(recordings, key=lambda recording: len(recording.samples))
