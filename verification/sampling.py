"""Sample measurements in a thread during a `with` block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

Self = TypeVar("Self", bound="Sampling")

SHARE = 0.2
"""Largest part of the time that the function runs, so that it doesn't slow down what it measures."""


class Sampling:
    """Calls a function again and again during a `with` block.

    Args:
        sample: The function.
        interval: Seconds between two calls; more if the function takes long.
    """

    def __init__(self, sample: Callable[[], None], interval: float) -> None:
        self._sample = sample
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self: Self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._interval
        while not self._stop.wait(pause):
            started = time.monotonic()
            self._sample()
            pause = max(self._interval, (1 / SHARE - 1) * (time.monotonic() - started))
