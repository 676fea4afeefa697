"""Recordings in memory, and what came back for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nemo_triton.audio import Samples, load_audio, seconds
from nemo_triton.errors import ManifestError
from nemo_triton.manifest import Utterance, read_manifest


@dataclass(frozen=True)
class Recording:
    """An utterance with its audio in memory: int16 samples [T] at 16 kHz."""

    utterance: Utterance
    samples: Samples

    @property
    def duration(self) -> float:
        """Seconds."""
        return seconds(self.samples)


@dataclass(frozen=True, kw_only=True)
class Response:
    """What came back for one request: a text, or the error in its place.

    Moments are seconds after the start of the run.

    Attributes:
        number: Of the request, within its load.
        recording: Index of the recording that was sent.
        text: The transcript; empty if there is none.
        due: When the request was to be sent; a closed loop sends each as soon as it may.
        sent: When it was sent.
        answered: When the answer, or the error, was there.
        attempts: How many times the request was sent, because of --retries or to another server.
        error: One line; None if there is a text.
        deadline_exceeded: Whether the error is that there was no answer in time.
        endpoint: The server that answered, as host:port; empty if none did.
    """

    number: int
    recording: int
    text: str
    due: float
    sent: float
    answered: float
    attempts: int = 1
    error: str | None = None
    deadline_exceeded: bool = False
    endpoint: str = ""

    @property
    def latency(self) -> float:
        """Seconds from when the request was due to its answer, so that a late sender hides nothing."""
        return self.answered - self.due


def read_recordings(manifest: Path) -> list[Recording]:
    """Read all recordings of a manifest, in its order.

    Raises:
        ManifestError: any line can't be used.
        AudioError: any audio can't.
    """
    listed = read_manifest(manifest)
    if listed.problems:
        raise ManifestError(listed.problems[0])
    return [Recording(utterance, load_audio(utterance.audio)) for utterance in listed.utterances]


def digest(recordings: Iterable[Recording]) -> str:
    """SHA-256 of references and samples in their order: equal where the same speech is measured, whatever its files."""
    checksum = hashlib.sha256()
    for recording in recordings:
        # JSON can say half a surrogate pair, which UTF-8 has no bytes for.
        text = (recording.utterance.text or "").encode(errors="surrogatepass")
        checksum.update(f"{len(text)} {len(recording.samples)}\n".encode() + text + recording.samples.tobytes())
    return checksum.hexdigest()
