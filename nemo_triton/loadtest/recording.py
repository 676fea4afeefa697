"""Recordings in memory, and what came back for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from nemo_triton.audio import Samples, seconds
from nemo_triton.manifest import Utterance


@dataclass(frozen=True)
class Recording:
    """An utterance with its audio in memory: int16 samples [T] at 16 kHz."""

    utterance: Utterance
    samples: Samples

    @property
    def duration(self) -> float:
        """Seconds."""
        return seconds(self.samples)


@dataclass(frozen=True)
class Response:
    """What came back for one request: a text, or the error in its place.

    Moments are seconds after the start of the run. `due` is when the request was to be sent; a closed loop sends each
    as soon as it may.
    """

    number: int
    recording: int
    text: str
    due: float
    sent: float
    answered: float
    attempts: int = 1
    """How often servers were asked for it, again by --retries or at another server."""
    error: str | None = None
    deadline_exceeded: bool = False
    target: str = ""
    """The server that answered, as host:port; empty where none did."""

    @property
    def latency(self) -> float:
        """Seconds from when the request was due to its answer, so that a late sender hides nothing."""
        return self.answered - self.due


def digest(recordings: Iterable[Recording]) -> str:
    """SHA-256 of references and samples in their order: equal where the same speech is measured, whatever its files."""
    found = hashlib.sha256()
    for recording in recordings:
        # JSON can say half a surrogate pair, which UTF-8 has no bytes for.
        text = (recording.utterance.text or "").encode(errors="surrogatepass")
        found.update(f"{len(text)} {len(recording.samples)}\n".encode() + text + recording.samples.tobytes())
    return found.hexdigest()
