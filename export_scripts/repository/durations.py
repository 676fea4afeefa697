"""Durations of recordings in a manifest."""

from __future__ import annotations

from pathlib import Path

from export_scripts.errors import ExportError
from export_scripts.repository.gpu import Lengths
from nemo_triton.errors import ManifestError
from nemo_triton.manifest import read_manifest


def read_lengths(manifest: Path) -> Lengths:
    """Read the shortest and the longest `duration` of a manifest, in seconds.

    Raises:
        ExportError: A line has no duration in seconds; the message names file and line.
    """
    try:
        listed = read_manifest(manifest)
    except ManifestError as error:
        raise ExportError(str(error)) from error
    if listed.problems:
        raise ExportError(listed.problems[0])
    durations = []
    for utterance in listed.utterances:
        if utterance.duration is None:
            raise ExportError(
                f"{manifest}:{utterance.line}: no duration in seconds; --lengths needs NeMo's JSON lines with a "
                "duration, as benchmark.prepare writes them"
            )
        if not 0 < utterance.duration < float("inf"):
            raise ExportError(
                f"{manifest}:{utterance.line}: duration is {utterance.duration:g}; it must be more than 0 seconds"
            )
        durations.append(utterance.duration)
    return Lengths(shortest=min(durations), longest=max(durations))
