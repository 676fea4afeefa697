"""Choose after which batches onnxruntime gives memory back."""

from __future__ import annotations

import time
from collections.abc import Mapping

import onnxruntime as ort
from checks import ConfigError
from joining import Array

SHRINK = "memory.enable_memory_arena_shrinkage"
"""onnxruntime's setting of a run, and the parameter of Triton's C++ backend: gives memory back after every batch."""
FROM_BYTES = "shrink_arena_from_bytes"
"""Parameter of this backend only: gives memory back after batches with at least this number of bytes as inputs."""
CPU_ARENA = "cpu:0"
SHRINK_SECONDS = 60.0
"""Time after which memory is given back after any batch. Else the arena grows with each unusual mixture of lengths."""


class RunOptions:
    """Options of a session's runs.

    onnxruntime's arena keeps the memory of the longest batch. Allocating anew for each batch takes time, so only long
    batches give theirs back, and one batch of each minute.

    Args:
        parameters: The parameters of the model's configuration.
        has_arena: Whether the session has an arena; without one there is nothing to give back.

    Raises:
        ConfigError: `shrink_arena_from_bytes` is not a whole number.
    """

    def __init__(self, parameters: Mapping[str, str], *, has_arena: bool = True) -> None:
        self._usual, self._large = ort.RunOptions(), ort.RunOptions()
        self._large_bytes: int | None = None
        self._shrunk = time.monotonic()
        if SHRINK in parameters:
            for options in (self._usual, self._large):
                options.add_run_config_entry(SHRINK, parameters[SHRINK])
        elif FROM_BYTES in parameters:
            if not parameters[FROM_BYTES].isdecimal():
                raise ConfigError(f"parameter {FROM_BYTES} is '{parameters[FROM_BYTES]}'; expected a whole number")
            self._large_bytes = int(parameters[FROM_BYTES]) if has_arena else None
            self._large.add_run_config_entry(SHRINK, CPU_ARENA)

    def of(self, inputs: Mapping[str, Array]) -> ort.RunOptions:
        """Return the options for a run with these inputs."""
        if self._large_bytes is None:
            return self._usual
        now = time.monotonic()
        large = sum(array.nbytes for array in inputs.values()) >= self._large_bytes
        if not large and now < self._shrunk + SHRINK_SECONDS:
            return self._usual
        self._shrunk = now
        return self._large
