"""Recordings that a manifest names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_triton.audio import Samples, seconds
from nemo_triton.loadtest import recording


@dataclass(frozen=True)
class Recording:
    """`name`: its file, as seen from the manifest, so that results do not depend on where it lies; `samples`: int16 [T]
    at 16 kHz.
    """

    name: str
    samples: Samples

    @property
    def seconds(self) -> float:
        return seconds(self.samples)


def read_recordings(manifest: Path, at_most: int | None = None) -> list[Recording]:
    """The recordings of a manifest, in order: all, or so many spread over their lengths.

    Raises ManifestError where a line is no good, AudioError for audio.
    """
    recordings = [
        Recording(_name(listed.utterance.audio, manifest.parent), listed.samples)
        for listed in recording.read_recordings(manifest)
    ]
    return [recordings[row] for row in spread([len(listed.samples) for listed in recordings], at_most)]


def spread(lengths: Sequence[int], at_most: int | None) -> list[int]:
    """Rows of at most so many lengths, the shortest and the longest among them, evenly by rank; in order."""
    if at_most is None or at_most >= len(lengths):
        return list(range(len(lengths)))
    by_length = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    return sorted(by_length[round(step * (len(lengths) - 1) / max(at_most - 1, 1))] for step in range(at_most))


def _name(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)
