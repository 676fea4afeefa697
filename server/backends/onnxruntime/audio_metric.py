"""Seconds of audio as a metric: by its rate a dashboard shows RTFx, which Triton's own metrics can't tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

NAME = "nemo_triton_audio_seconds"
AUDIO_INPUT = "AUDIO"
SAMPLES_PER_SECOND = 16000
"""By the contract (nemo_triton/contract.py), which the server's Python can't import."""


class AudioMetric:
    """Counts what comes in as AUDIO; nothing in models that take none.

    Steps of an ensemble count and ensembles don't, so a request counts once, in the stage that takes its audio.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._counter: Any = None
        if any(entry["name"] == AUDIO_INPUT for entry in config.get("input", ())):
            self._family = pb_utils.MetricFamily(
                name=NAME, description="Seconds of audio in executed requests", kind=pb_utils.MetricFamily.COUNTER
            )
            self._counter = self._family.Metric(labels={"model": config["name"]})

    def count(self, requests: Sequence[Mapping[str, npt.NDArray[np.generic]]]) -> None:
        """Add the audio of `requests`, by each one's inputs by name, AUDIO [items, samples]."""
        if self._counter is not None:
            samples = sum(request[AUDIO_INPUT].size for request in requests)
            self._counter.increment(samples / SAMPLES_PER_SECOND)
