"""Peak memory of a server under load."""

from __future__ import annotations

from contextlib import suppress

import psutil

from verification.attack.footprint import footprint
from verification.sampling import Sampling
from verification.server_processes import stages_of

MEASURE = "PSS of tritonserver and all its child processes, sampled at most every 0.1 s"
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
        # Once per sample: to read the memory of a process of some gigabytes takes tens of milliseconds of the CPU.
        now = footprint(self._server)
        self.peak = max(self.peak, now.memory)
        if self._model is not None:
            with suppress(psutil.NoSuchProcess):
                of_model = stages_of(self._server).get(self._model, ())
                self.model_peak = max(self.model_peak, sum(now.memory_of.get(process, 0) for process in of_model))
