"""Peak memory of a server under load."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

import psutil

from verification.attack.footprint import footprint

MEASURE = "PSS of tritonserver and all its child processes, sampled every 0.1 s"
"""PSS counts memory that processes share once."""
INTERVAL_SECONDS = 0.1


class PeakMemory:
    """A sampler of the memory of a process and its children during a `with` block.

    Args:
        process: ID of the process.
        model: Model whose processes are also measured; None measures none.

    Attributes:
        first: Bytes when the block starts.
        peak: Highest number of bytes so far.
        model_peak: Highest number of bytes of the model's processes so far.
    """

    def __init__(self, process: int, model: str | None = None) -> None:
        self._process = process
        self._model = model
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self.first = self.peak = footprint(self._process).memory
        self.model_peak = 0
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            self.peak = max(self.peak, footprint(self._process).memory)
            if self._model is not None:
                self.model_peak = max(self.model_peak, model_memory(self._process, self._model))


def model_memory(server: int, model: str) -> int:
    """Memory (PSS) of the processes that serve a model, in bytes.

    Args:
        server: ID of tritonserver's process.
        model: Name of the model.
    """
    total = 0
    try:
        children = psutil.Process(server).children(recursive=True)
    except psutil.NoSuchProcess:
        return 0
    for child in children:
        try:
            command = child.cmdline()
            # The first argument of the Python backend's process is REPOSITORY/MODEL/1/model.onnx.
            if len(command) > 1 and Path(command[1]).parts[-3:-2] == (model,):
                total += child.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
