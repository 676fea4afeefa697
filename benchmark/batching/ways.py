"""The ways to transcribe a set of recordings that are measured side by side."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from client.audio import SAMPLE_RATE
from client.load import LoadRun, Recording, run_load
from client.recognizer import AsyncRecognizer
from export_scripts.runner import Runner

OFFLINE_BATCH = 16
"""Recordings that those who have all of them at hand take at a time."""


@dataclass(frozen=True)
class Measured:
    """One pass over all recordings.

    seconds: of the wall clock
    texts: by audio file
    latencies: seconds from asking to the answer, of each recording; empty where all are asked for at once
    mean_batch: recordings that the encoder took at a time
    """

    seconds: float
    texts: dict[str, str]
    latencies: list[float] = field(default_factory=list)
    mean_batch: float | None = None


class Way(ABC):
    """One way; `padding` is the share of silence that it adds to the audio before the model sees it."""

    name: str
    padding: float | None = None

    @abstractmethod
    def measure(self, recordings: Sequence[Recording], at_once: int) -> Measured:
        """Transcribe all of them, so many at a time."""


class Served(Way):
    """A running server, asked by so many clients at once; they pad to multiples of `pad_to` seconds, if at all."""

    def __init__(self, name: str, model: str, url: str, recordings: Sequence[Recording], pad_to: int = 0) -> None:
        self.name = name
        self.model = model
        self.url = url
        self.pad_to = pad_to
        if pad_to:
            spoken = sum(recording.duration for recording in recordings)
            self.padding = sum(self._sent(recording).duration for recording in recordings) / spoken - 1

    def measure(self, recordings: Sequence[Recording], at_once: int) -> Measured:
        return asyncio.run(self._measure([self._sent(recording) for recording in recordings], at_once))

    async def _measure(self, recordings: Sequence[Recording], at_once: int) -> Measured:
        run = LoadRun()
        async with AsyncRecognizer(self.model, self.url) as recognizer:
            await run_load(recognizer, recordings, at_once, run, lambda response: None)
        failed = [response.error for response in run.responses if response.error]
        if failed:
            raise RuntimeError(f"{self.name}: {failed[0]}")
        texts = {response.recording.utterance.name: response.text for response in run.responses}
        latencies = [response.latency for response in run.responses]
        (encoder,) = (step for step in run.steps if step.model == f"{self.model}_encoder")
        return Measured(run.wall_seconds, texts, latencies, encoder.mean_batch_size)

    def _sent(self, recording: Recording) -> Recording:
        if not self.pad_to:
            return recording
        missing = -len(recording.samples) % (self.pad_to * SAMPLE_RATE)
        return replace(recording, samples=np.pad(recording.samples, (0, missing)))


class InProcess(Way):
    """The same graphs in this process, without a server: batches of recordings sorted by length."""

    name = "in process, sorted by length"

    def __init__(self, repository: Path, model: str) -> None:
        self.runner = Runner(repository, model)

    def measure(self, recordings: Sequence[Recording], at_once: int) -> Measured:
        size = min(at_once, OFFLINE_BATCH)
        ordered = sorted(recordings, key=lambda recording: len(recording.samples)) if size > 1 else recordings
        texts, latencies = {}, []
        started = time.perf_counter()
        for start in range(0, len(ordered), size):
            asked = time.perf_counter()
            batch = ordered[start : start + size]
            items = self.runner.run([recording.samples for recording in batch])
            latencies.append(time.perf_counter() - asked)
            texts.update({one.utterance.name: item["TEXT"].item() for one, item in zip(batch, items, strict=True)})
        spent = time.perf_counter() - started
        return Measured(spent, texts, latencies if size == 1 else [], mean_batch(len(ordered), size))


class Nemo(Way):
    """NeMo's transcribe() in a process of its own, of recordings sorted by length, for as long as a block lasts."""

    name = "NeMo's transcribe()"

    def __init__(self, python: Path, checkpoint: Path, recordings: Sequence[Recording]) -> None:
        by_length = sorted(recordings, key=lambda recording: len(recording.samples))
        self.files = [recording.utterance.name for recording in by_length]
        worker = [str(python), str(Path(__file__).with_name("nemo_worker.py")), str(checkpoint), *self.files]
        self.process = subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Nemo:
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.wait()

    def measure(self, recordings: Sequence[Recording], at_once: int) -> Measured:
        assert self.process.stdin is not None and self.process.stdout is not None
        size = min(at_once, OFFLINE_BATCH)
        print(size, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"NeMo's process ended with code {self.process.wait()}")
        found = json.loads(line)
        texts = dict(zip(self.files, found["texts"], strict=True))
        return Measured(found["seconds"], texts, mean_batch=mean_batch(len(self.files), size))


def mean_batch(recordings: int, size: int) -> float:
    """Of batches of so many, the last of which may be smaller."""
    return recordings / math.ceil(recordings / size)
