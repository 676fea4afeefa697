"""Speech that an export is compared on or learns from, and the trace that it leaves in the report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export_scripts.errors import ExportError
from nemo_triton.audio import load_audio
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import AudioError, ManifestError
from nemo_triton.manifest import Manifest, find_audio, read_manifest


@dataclass(frozen=True)
class Trace:
    """Which recordings they were, for the report.

    sha256: of the sorted SHA-256 digests, in hexadecimal, of each one's int16 samples; the order does not count
    """

    source: str
    recordings: int
    seconds: float
    sha256: str


@dataclass(frozen=True)
class Recordings:
    """int16 signals [T] at 16 kHz.

    source: where they are from, fit for a report that others read; names: one for each signal
    """

    source: str = "none"
    signals: tuple[np.ndarray, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(map(len, self.signals)) / SAMPLE_RATE

    @property
    def digests(self) -> list[str]:
        return [hashlib.sha256(signal.astype("<i2").tobytes()).hexdigest() for signal in self.signals]

    def first(self, count: int | None) -> Recordings:
        """So many of them; all where `count` is None."""
        return Recordings(self.source, self.signals[:count], self.names[:count])

    def count_in(self, others: Recordings) -> int:
        """How many of them are also among `others`, by their samples."""
        known = set(others.digests)
        return sum(digest in known for digest in self.digests)

    def trace(self) -> Trace:
        digest = hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()
        return Trace(self.source, len(self.signals), round(self.seconds, 3), digest)


NO_RECORDINGS = Recordings()


def read_recordings(source: Path) -> Recordings:
    """Each audio file of a folder, or of each line of a manifest, at 16 kHz.

    Raises:
        ExportError: naming the file and the manifest's line, where there are none or one can't be used.
    """
    # Reports are read by others, who need not know where the folder lies on this machine.
    name = source.name if source.is_absolute() else str(source)
    listed = _listed(source)
    if listed.problems:
        raise ExportError(listed.problems[0])
    signals = []
    for utterance in listed.utterances:
        where = f"{source}:{utterance.line}: " if utterance.line else ""
        try:
            samples = load_audio(utterance.audio)
        except AudioError as error:
            raise ExportError(f"{where}{error}") from error
        if not len(samples):
            raise ExportError(f"{where}{utterance.audio}: holds no samples; leave it out")
        signals.append(samples)
    return Recordings(name, tuple(signals), tuple(utterance.audio.name for utterance in listed.utterances))


def _listed(source: Path) -> Manifest:
    if source.is_dir():
        return find_audio([source])
    try:
        return read_manifest(source)
    except ManifestError as error:
        raise ExportError(str(error)) from error
