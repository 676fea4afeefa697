"""Recordings of equal length, cut from a manifest's speech."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from nemo_triton.audio import Samples, join
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.loadtest.recording import Recording, digest, read_recordings
from nemo_triton.manifest import Utterance

_SUBTYPES = {"int16": "PCM_16", "float32": "FLOAT"}
"""libsndfile's names of the sample types."""


@dataclass(frozen=True)
class Speech:
    """The recordings of every measurement.

    Attributes:
        name: The manifest's folder, which names the speech.
        recordings: All of equal length, each with its file.
    """

    name: str
    recordings: list[Recording]

    @property
    def seconds(self) -> float:
        """Seconds of audio in all recordings together."""
        return sum(recording.duration for recording in self.recordings)

    @property
    def digest(self) -> str:
        """SHA-256 of the samples."""
        return digest(self.recordings)


def cut_recordings(manifest: Path, folder: Path, *, count: int, seconds: float) -> Speech:
    """Cut recordings of equal length and write them as WAV files.

    Args:
        manifest: Manifest with speech of any length.
        folder: Folder for the WAV files.
        count: Number of recordings.
        seconds: Length of each recording.

    Raises:
        ManifestError: A line of the manifest can't be used.
        AudioError: A file can't be read as audio.
    """
    speech = join(recording.samples for recording in read_recordings(manifest))
    pieces = cut(speech, count, round(seconds * SAMPLE_RATE))
    folder.mkdir(parents=True, exist_ok=True)
    recordings = []
    for number, samples in enumerate(pieces):
        file = folder / f"{number:02}.wav"
        soundfile.write(file, samples, SAMPLE_RATE, subtype=_SUBTYPES[samples.dtype.name])
        recordings.append(Recording(Utterance(file), samples))
    return Speech(manifest.parent.name, recordings)


def cut(samples: Samples, count: int, length: int) -> list[Samples]:
    """Cut pieces [length] at equal distances, so that no two are equal; too little speech is repeated.

    Args:
        samples: int16 or float32 [T].
        count: Number of pieces.
        length: Samples per piece.
    """
    repeated = np.resize(samples, len(samples) + length)
    starts = [len(samples) * number // count for number in range(count)]
    return [repeated[start : start + length] for start in starts]
