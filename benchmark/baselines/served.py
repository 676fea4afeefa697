"""A recognizer on a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from benchmark.baselines.errors import NotRun
from benchmark.baselines.system import Measured, System
from nemo_triton.audio import Samples, seconds
from nemo_triton.contract import SAMPLE_RATE, Part
from nemo_triton.errors import RecognizerError
from nemo_triton.loadtest.measure import LoadRun, failures, measure
from nemo_triton.loadtest.recording import Recording
from nemo_triton.loadtest.schedule import ClosedLoop, Plan
from nemo_triton.loadtest.sender import LocalSenders
from nemo_triton.loadtest.server_counters import summary
from nemo_triton.recognizer import AsyncRecognizer


class Served(System):
    """A recognizer on a running server. Clients pad audio to multiples of `pad_to` seconds; 0 adds no padding."""

    def __init__(self, name: str, model: str, url: str, recordings: Sequence[Recording], pad_to: int = 0) -> None:
        self.name = name
        self.model = model
        self.url = url
        self.pad_to = pad_to
        if pad_to:
            unpadded = sum(recording.duration for recording in recordings)
            self.padding = sum(seconds(self._padded(recording.samples)) for recording in recordings) / unpadded - 1

    def measure(self, recordings: Sequence[Recording], concurrency: int) -> Measured:
        """See System.measure. Each recording is one request."""
        try:
            run = asyncio.run(self._measure([self._padded(recording.samples) for recording in recordings], concurrency))
        except RecognizerError as error:
            raise NotRun(str(error)) from error
        failed = failures(run.responses)
        if failed:
            raise NotRun(f"{recordings[failed[0].recording].utterance.name}: {failed[0].error}")
        texts = {recordings[response.recording].utterance.name: response.text for response in run.responses}
        latencies = [response.latency for response in run.responses]
        (session,) = run.sessions
        (encoder,) = (step for step in summary(session.counted) if step.model.endswith(Part.ENCODER.value))
        return Measured(session.wall_seconds, texts, latencies, encoder.mean_batch_size)

    async def _measure(self, audio: Sequence[Samples], concurrency: int) -> LoadRun:
        run = LoadRun(ClosedLoop(concurrency))
        plan = Plan(run.load, tuple(range(len(audio))), shuffled=False, seed=0, requests=len(audio))
        async with AsyncRecognizer(self.model, self.url) as recognizer:
            await measure(recognizer, LocalSenders(recognizer, audio), plan, run)
        return run

    def _padded(self, samples: Samples) -> Samples:
        """Pad int16 samples [T] with silence at the end, as the client sends them."""
        if not self.pad_to:
            return samples
        return np.pad(samples, (0, -len(samples) % (self.pad_to * SAMPLE_RATE)))
