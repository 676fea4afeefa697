"""Recordings that a manifest names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_triton.audio import Samples, load_audio, seconds
from nemo_triton.errors import ManifestError
from nemo_triton.manifest import read_manifest


@dataclass(frozen=True)
class Recording:
    """`name`: its file, as seen from the manifest; `samples`: int16 [T] at 16 kHz."""

    name: str
    samples: Samples

    @property
    def seconds(self) -> float:
        return seconds(self.samples)


def read_recordings(manifest: Path, at_most: int | None = None) -> list[Recording]:
    """The recordings of a manifest, in order: all, or so many spread over their lengths.

    Raises ManifestError where a line is no good, AudioError for audio.
    """
    listed = read_manifest(manifest)
    if listed.problems:
        raise ManifestError(listed.problems[0])
    files = [utterance.audio for utterance in listed.utterances]
    recordings = [Recording(_name(file, manifest.parent), load_audio(file)) for file in files]
    return [recordings[row] for row in spread([len(recording.samples) for recording in recordings], at_most)]


def spread(lengths: Sequence[int], at_most: int | None) -> list[int]:
    """Rows of at most so many lengths, the shortest and the longest among them, evenly by rank; in order."""
    if at_most is None or at_most >= len(lengths):
        return list(range(len(lengths)))
    by_length = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    return sorted(by_length[round(step * (len(lengths) - 1) / max(at_most - 1, 1))] for step in range(at_most))


def _name(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)
