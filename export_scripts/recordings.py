"""Recordings for comparison and calibration, and their description in the report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from export_scripts.errors import ExportError
from nemo_triton.audio import Samples
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import AudioError, ManifestError
from nemo_triton.manifest import Utterance, find_audio, is_folder, read_manifest
from nemo_triton.utterances import load_utterance


@dataclass(frozen=True)
class Trace:
    """A description of recordings, for the report.

    Attributes:
        source: Folder or manifest of the recordings.
        recordings: Number of recordings.
        seconds: Total duration of the audio.
        sha256: Digest of the sorted hexadecimal SHA-256 digests of each recording's samples, so that the order makes no
            difference.
    """

    source: str
    recordings: int
    seconds: float
    sha256: str


@dataclass(frozen=True)
class Recordings:
    """Audio in memory.

    Attributes:
        source: Folder or manifest, without this machine's absolute path.
        signals: int16 or float32 [samples] each, 16 kHz.
        names: File name of each signal.
        utterances: Where each signal was read from; empty if the signals were derived from others.
    """

    source: str = "none"
    signals: tuple[Samples, ...] = ()
    names: tuple[str, ...] = ()
    utterances: tuple[Utterance, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(map(len, self.signals)) / SAMPLE_RATE

    @property
    def digests(self) -> list[str]:
        return [
            hashlib.sha256(signal.astype(signal.dtype.newbyteorder("<")).tobytes()).hexdigest()
            for signal in self.signals
        ]

    def first(self, count: int | None) -> Recordings:
        """The first `count` recordings; None for all."""
        return Recordings(self.source, self.signals[:count], self.names[:count], self.utterances[:count])

    def up_to(self, seconds: float) -> Recordings:
        """Those that are at most `seconds` long."""
        kept = [index for index, signal in enumerate(self.signals) if len(signal) <= seconds * SAMPLE_RATE]
        return Recordings(
            self.source,
            tuple(self.signals[index] for index in kept),
            tuple(self.names[index] for index in kept),
            tuple(self.utterances[index] for index in kept if self.utterances),
        )

    def count_in(self, others: Recordings) -> int:
        """Number of recordings that are also in `others`, compared by their samples."""
        known = set(others.digests)
        return sum(digest in known for digest in self.digests)

    def trace(self) -> Trace:
        digest = hashlib.sha256("".join(sorted(self.digests)).encode()).hexdigest()
        return Trace(self.source, len(self.signals), round(self.seconds, 3), digest)


NO_RECORDINGS = Recordings()


def read_recordings(source: Path) -> Recordings:
    """Read the audio files of a folder or manifest, resampled to 16 kHz.

    Raises:
        ExportError: There is no recording, or one can't be used. The message names the file and the manifest's line.
    """
    # Reports are published: keep this machine's folders out of them.
    name = source.name if source.is_absolute() else str(source)
    utterances = list_recordings(source)
    signals = tuple(read_samples(utterance, source) for utterance in utterances)
    return Recordings(name, signals, tuple(utterance.audio.name for utterance in utterances), tuple(utterances))


def list_recordings(source: Path) -> list[Utterance]:
    """List the recordings of a folder or manifest; at least one.

    Raises:
        ExportError: There is none, or a line of the manifest can't be used. The message names the line.
    """
    try:
        listed = find_audio([source]) if is_folder(source) else read_manifest(source)
    except ManifestError as error:
        raise ExportError(str(error)) from error
    if listed.problems:
        raise ExportError(listed.problems[0])
    return listed.utterances


def read_samples(utterance: Utterance, source: Path) -> Samples:
    """Read the samples of a recording, at least one.

    Args:
        utterance: The recording.
        source: The folder or manifest that lists it.

    Raises:
        ExportError: It can't be read or has no samples. The message names the file and the manifest's line.
    """
    where = f"{source}:{utterance.line}: " if utterance.line else ""
    try:
        samples = load_utterance(utterance)
    except AudioError as error:
        raise ExportError(f"{where}{error}") from error
    if not len(samples):
        raise ExportError(f"{where}{utterance.audio}: has no samples; leave it out")
    return samples
