"""A metric of the seconds of audio received. Its rate is RTFx, which Triton's own metrics don't show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

NAME = "nemo_triton_audio_seconds"
AUDIO_INPUT = "AUDIO"
SAMPLES_PER_SECOND = 16000
"""A copy of nemo_triton/contract.py's SAMPLE_RATE. The server's Python can't import that module."""


class AudioMetric:
    """Counter of the seconds of audio that a model receives as AUDIO.

    Models without such an input count nothing. Ensembles have no backend, so each request counts once: in the stage
    that takes its audio.

    Args:
        config: The model's configuration as JSON.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._counter: Any = None
        if any(entry["name"] == AUDIO_INPUT for entry in config.get("input", ())):
            self._family = pb_utils.MetricFamily(
                name=NAME, description="Seconds of audio in executed requests", kind=pb_utils.MetricFamily.COUNTER
            )
            self._counter = self._family.Metric(labels={"model": config["name"]})

    def count(self, requests: Sequence[Mapping[str, npt.NDArray[np.generic]]]) -> None:
        """Add the audio of executed requests.

        Args:
            requests: The inputs of each request by name; AUDIO has shape [items, samples].
        """
        if self._counter is not None:
            samples = sum(request[AUDIO_INPUT].size for request in requests)
            self._counter.increment(samples / SAMPLES_PER_SECOND)
