"""A recognizer without a server."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.baselines.errors import NotRun
from benchmark.baselines.recordings import by_length
from benchmark.baselines.system import OFFLINE_BATCH, Measured, System, mean_batch
from nemo_triton.contract import TEXT
from nemo_triton.errors import one_line
from nemo_triton.loadtest.recording import Recording


class InProcess(System):
    """The recognizer's stages in this process, on batches of recordings sorted by length."""

    name = "in process, sorted by length"

    def __init__(self, repository: Path, model: str) -> None:
        self.repository = repository
        self.model = model

    def __enter__(self) -> InProcess:
        try:
            # Imported late: it needs onnx and onnxruntime, which the other systems do not.
            from export_scripts.verify.local_ensemble import LocalEnsemble
        except ModuleNotFoundError as error:
            raise NotRun(f"no package {error.name} in {sys.prefix}; install it there") from error
        try:
            self.local_ensemble = LocalEnsemble(self.repository, self.model)
        except Exception as error:
            # onnxruntime's exception classes are not public.
            raise NotRun(one_line(error)) from error
        return self

    def measure(self, recordings: Sequence[Recording], concurrency: int) -> Measured:
        """See System.measure."""
        size = min(concurrency, OFFLINE_BATCH)
        ordered = by_length(recordings) if size > 1 else recordings
        texts: dict[str, str] = {}
        latencies: list[float] = []
        started = time.perf_counter()
        for start in range(0, len(ordered), size):
            batch_started = time.perf_counter()
            batch = ordered[start : start + size]
            items = self.local_ensemble.run([recording.samples for recording in batch])
            latencies.append(time.perf_counter() - batch_started)
            for recording, item in zip(batch, items, strict=True):
                texts[recording.utterance.name] = item[TEXT.name].item()
        spent = time.perf_counter() - started
        return Measured(spent, texts, latencies if size == 1 else [], mean_batch(len(ordered), size))
