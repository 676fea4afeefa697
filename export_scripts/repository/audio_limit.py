"""The longest audio that a recognizer takes by default, from the memory that it needs.

The rule and its measurements: docs/serve.md, section Memory, and docs/models.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from nemo_triton.contract import MAX_AUDIO_SECONDS

MEMORY_BUDGET = 8 * 2**30
"""Memory of a server with one model, in bytes: what the chart gives a pod."""
REQUESTS = 16
"""Concurrent requests of the longest audio that must fit the budget."""
SERVER_BYTES = 0.5e9
"""Memory of tritonserver and the stages' processes, without weights and audio."""
COPIES_OF_WEIGHTS = 3.0
"""Copies of an encoder's float32 weights in memory while onnxruntime serves it."""
COPIES_OF_WEIGHTS_IN_FILE = 1.8
"""The same for weights in a file beside the graph, one copy of which is the file's mapped pages."""
LAYERS_AT_ONCE = 2.6
"""Most memory of an encoder's activations, in sizes of its largest layer. Measured: 1.6 to 2.6."""
COPIES_OF_TENSORS = 5.5
"""Copies of the tensors between stages: in both stages, in Triton, in /dev/shm, and while a stage works on them."""
COPIES_IN_SHARED_MEMORY = 1.5
"""Copies of the tensors between stages in /dev/shm."""
SHRINK_FROM_BYTES = 5_000_000
"""Inputs of a batch after which a stage gives memory back: 2.5 minutes of features, more than 16 requests of 9 s.

onnxruntime's arena keeps what the longest batch needed. To give it back after each batch would cost up to 40 % of the
time of short ones (docs/serve.md#memory).
"""
NOT_REUSED = 0.75
"""Part of the memory kept by the arena that a longer batch can't use: its tensors don't fit into the free pieces."""
STEP_SECONDS = 60
"""Limits are whole minutes, so that similar models share a stage."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What decides the memory of a recognizer.

    Attributes:
        weights: Bytes of the encoder's weights.
        weights_in_file: Whether they lie in a file beside the graph.
        encoders: Instances of the encoder.
        largest_layer: Bytes of the inputs and outputs of the encoder's largest layer, per second of audio.
        features: Bytes of the encoder's input, per second of audio.
        tensors: Bytes of all tensors that pass from stage to stage, per second of audio.
    """

    weights: int
    weights_in_file: bool
    encoders: int
    largest_layer: float
    features: float
    tensors: float

    @property
    def fixed(self) -> float:
        """Bytes of a server without requests, after the longest batch whose memory it keeps."""
        kept = self.encoder_per_second * SHRINK_FROM_BYTES / self.features
        copies = COPIES_OF_WEIGHTS_IN_FILE if self.weights_in_file else COPIES_OF_WEIGHTS
        return SERVER_BYTES + copies * self.weights * self.encoders + NOT_REUSED * kept

    @property
    def encoder_per_second(self) -> float:
        """Bytes of the encoders' activations per second of the longest request: each instance works on one bucket."""
        return LAYERS_AT_ONCE * self.largest_layer * self.encoders

    @property
    def per_second(self) -> float:
        """Bytes per second of audio of REQUESTS concurrent requests."""
        return self.encoder_per_second + REQUESTS * COPIES_OF_TENSORS * self.tensors

    def memory(self, seconds: int) -> int:
        """Bytes of a server with REQUESTS concurrent requests of this length."""
        return round(self.fixed + seconds * self.per_second)

    def shared_memory(self, seconds: int) -> int:
        """Bytes in /dev/shm of REQUESTS concurrent requests of this length."""
        return round(COPIES_IN_SHARED_MEMORY * REQUESTS * seconds * self.tensors)


def default_limit(footprint: Footprint) -> int:
    """Longest audio in seconds of which REQUESTS concurrent requests fit MEMORY_BUDGET.

    A whole number of minutes, at least one and at most MAX_AUDIO_SECONDS.
    """
    seconds = (MEMORY_BUDGET - footprint.fixed) / footprint.per_second
    return max(STEP_SECONDS, min(MAX_AUDIO_SECONDS, int(seconds) // STEP_SECONDS * STEP_SECONDS))
