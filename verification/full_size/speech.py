"""Recordings of a manifest, named by their path relative to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_triton.audio import Samples, seconds
from nemo_triton.loadtest import recording


@dataclass(frozen=True)
class Recording:
    """One recording.

    Attributes:
        name: Path of the file relative to the manifest, so that results do not depend on where both are.
        samples: int16 [T] at 16 kHz.
    """

    name: str
    samples: Samples

    @property
    def seconds(self) -> float:
        """Duration."""
        return seconds(self.samples)


def read_recordings(manifest: Path, at_most: int | None = None) -> list[Recording]:
    """Read the recordings of a manifest, in order.

    Args:
        manifest: JSON lines or CSV.
        at_most: Number of recordings, spread over all lengths; None for all.

    Raises:
        ManifestError: A line is not readable.
        AudioError: A recording is not readable.
    """
    recordings = [
        Recording(_name(listed.utterance.audio, manifest.parent), listed.samples)
        for listed in recording.read_recordings(manifest)
    ]
    return [recordings[row] for row in spread([len(listed.samples) for listed in recordings], at_most)]


def spread(lengths: Sequence[int], at_most: int | None) -> list[int]:
    """Choose rows evenly by the rank of their lengths, from the shortest to the longest.

    Args:
        lengths: Length of each row.
        at_most: Number of rows to choose; None for all.

    Returns:
        The chosen rows, in order.
    """
    if at_most is None or at_most >= len(lengths):
        return list(range(len(lengths)))
    by_length = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    return sorted(by_length[round(step * (len(lengths) - 1) / max(at_most - 1, 1))] for step in range(at_most))


def _name(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)
