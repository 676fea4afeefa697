"""Peak memory of a server under load."""

from __future__ import annotations

import threading
from types import TracebackType

from verification.attack.footprint import footprint

MEASURE = "PSS of tritonserver and all its child processes, sampled every 0.1 s"
"""PSS counts memory that processes share once."""
INTERVAL_SECONDS = 0.1


class PeakMemory:
    """A sampler of the memory of a process and its children during a `with` block.

    Attributes:
        first: Bytes when the block starts.
        peak: Highest number of bytes so far.
    """

    def __init__(self, process: int) -> None:
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self.first = self.peak = footprint(self._process).memory
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
