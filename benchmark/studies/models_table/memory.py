"""Peak memory of a server under load."""

from __future__ import annotations

from contextlib import suppress

import psutil

from verification.attack.footprint import footprint
from verification.sampling import Sampling
from verification.server_processes import stages_of

MEASURE = "PSS of tritonserver and all its child processes, sampled every 0.1 s"
"""PSS counts memory that processes share once."""
INTERVAL_SECONDS = 0.1


class PeakMemory(Sampling):
    """A sampler of the memory of a server during a `with` block.

    Args:
        server: Process id of the server's supervisor.
        model: Model whose processes are also measured; None measures none.

    Attributes:
        first: Bytes when the block starts.
        peak: Highest number of bytes so far.
        model_peak: Highest number of bytes of the model's processes so far.
    """

    def __init__(self, server: int, model: str | None = None) -> None:
        self._server = server
        self._model = model
        self.first = self.peak = footprint(server).memory
        self.model_peak = 0
        super().__init__(self._note_peaks, INTERVAL_SECONDS)

    def _note_peaks(self) -> None:
        self.peak = max(self.peak, footprint(self._server).memory)
        if self._model is not None:
            self.model_peak = max(self.model_peak, model_memory(self._server, self._model))


def model_memory(server: int, model: str) -> int:
    """Memory (PSS) of the processes that serve a model, in bytes; 0 if the server has ended.

    Args:
        server: Process id of the server's supervisor.
        model: Name of the model.
    """
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in stages_of(server).get(model, ()):
            total += psutil.Process(process).memory_full_info().pss
    return total
