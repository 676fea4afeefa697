"""Recordings in memory or in a spool, and the responses to requests that send them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nemo_triton.audio import Samples, seconds
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.errors import ManifestError
from nemo_triton.loadtest.spool import SpooledSamples, bytes_of
from nemo_triton.manifest import Utterance, read_manifest
from nemo_triton.utterances import load_utterance

PERCENTILES = (50, 90, 95, 99)
"""Percentiles of latency that results report."""


class RecordingInfo(Protocol):
    """What results need to know of a recording, wherever its samples are."""

    @property
    def utterance(self) -> Utterance:
        """Entry of the manifest."""

    @property
    def duration(self) -> float:
        """Length in seconds."""


@dataclass(frozen=True)
class Recording:
    """An utterance with its audio in memory, for studies of few recordings.

    Attributes:
        utterance: Entry of the manifest.
        samples: int16 or float32 [T], 16 kHz, mono.
    """

    utterance: Utterance
    samples: Samples

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return seconds(self.samples)


@dataclass(frozen=True)
class SpooledRecording:
    """An utterance with its audio in a spool, for bench.py.

    Attributes:
        utterance: Entry of the manifest.
        audio: The samples, which utterances of the same recording share.
    """

    utterance: Utterance
    audio: SpooledSamples

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.audio.count / SAMPLE_RATE


@dataclass(frozen=True, kw_only=True)
class Response:
    """The response to one request: a text or an error.

    Times are in seconds since the start of the load.

    Attributes:
        number: Number of the request within its load, from 0.
        recording: Index of the recording that was sent.
        text: The transcript; empty if the request failed.
        due: Scheduled send time. A closed loop sends a request as soon as another ends.
        sent: Actual send time.
        answered: Arrival time of the response or error.
        attempts: Number of times that the request was sent, retries included.
        error: One line; None if there is a text.
        deadline_exceeded: Whether the request failed because its deadline passed.
        refused: Whether a full queue refused the request and it was not retried, as in an open loop.
        refusals: Number of attempts that a full queue refused.
        endpoint: Address as host:port of the server that responded; empty if none did.
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
    refused: bool = False
    refusals: int = 0
    endpoint: str = ""

    @property
    def latency(self) -> float:
        """Seconds from the scheduled send time to the response, so that a late client hides nothing."""
        return self.answered - self.due


def read_recordings(manifest: Path) -> list[Recording]:
    """Read all recordings of a manifest into memory, in its order.

    Raises:
        ManifestError: A line of the manifest is not usable.
        AudioError: An audio file is not readable.
    """
    listed = read_manifest(manifest)
    if listed.problems:
        raise ManifestError(listed.problems[0])
    return [Recording(utterance, load_utterance(utterance)) for utterance in listed.utterances]


def digest(recordings: Iterable[Recording]) -> str:
    """SHA-256 of all references and samples in order: equal for the same speech, whatever its file names."""
    checksum = Checksum()
    for recording in recordings:
        samples = recording.samples
        checksum.add(recording.utterance.text, samples.dtype, len(samples), [bytes_of(samples)])
    return checksum.hexdigest()


class Checksum:
    """Computes `digest` one recording after the other."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, text: str | None, dtype: np.dtype[Any], count: int, chunks: Iterable[memoryview]) -> None:
        """Add a recording.

        Args:
            text: Its reference.
            dtype: Type of the samples.
            count: Number of samples.
            chunks: Their bytes, in pieces.
        """
        # JSON can hold half of a surrogate pair, which strict UTF-8 does not encode.
        reference = (text or "").encode(errors="surrogatepass")
        # Results of earlier versions, which had only int16, have to stay comparable.
        kind = "" if dtype == np.int16 else f" {dtype}"
        self._sha256.update(f"{len(reference)} {count}{kind}\n".encode() + reference)
        for chunk in chunks:
            self._sha256.update(chunk)

    def hexdigest(self) -> str:
        """The digest of the recordings so far."""
        return self._sha256.hexdigest()
