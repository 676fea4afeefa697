"""Durations of recordings."""

from __future__ import annotations

from pathlib import Path

from export_scripts.recordings import list_recordings, read_samples
from export_scripts.repository.gpu import Lengths
from nemo_triton.audio import seconds


def read_lengths(source: Path) -> Lengths:
    """Read the shortest and the longest duration in a folder or manifest, in seconds.

    A `duration` in the manifest is trusted: reading thousands of recordings takes minutes. Recordings without one are
    read, because most kinds of manifests have none.

    Raises:
        ExportError: There is no recording, or one has no duration and can't be read. The message names file and line.
    """
    durations = [
        utterance.duration or seconds(read_samples(utterance, source)) for utterance in list_recordings(source)
    ]
    return Lengths(shortest=min(durations), longest=max(durations))
