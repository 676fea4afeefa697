"""Count the memory that a model needs per second of audio, from the shapes of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from export_scripts.checkpoints.checkpoint import Checkpoint

EXAMPLE_SECONDS = 4


@dataclass(frozen=True)
class Activations:
    """Sizes in bytes per second of audio.

    Attributes:
        largest_layer: Inputs and outputs of the encoder's largest layer, which are in memory together.
        scores: Outputs of the encoder stage.
    """

    largest_layer: float
    scores: float


@torch.no_grad()
def measure_activations(checkpoint: Checkpoint) -> Activations:
    """Run a checkpoint's model on silence and read the sizes of its layers.

    Blocks count as layers: one with dense residuals reads the outputs of all blocks before it. All sizes grow linearly
    with the length of the audio, since the exported attention works in blocks of fixed size.
    """
    model: Any = checkpoint.model
    largest = 0

    def measure(module: torch.nn.Module, inputs: Any, keywords: Any, outputs: Any) -> None:
        nonlocal largest
        sizes = {id(tensor): tensor.nbytes for tensor in _tensors([inputs, keywords, outputs])}
        largest = max(largest, sum(sizes.values()))

    hooks = [layer.register_forward_hook(measure, with_kwargs=True) for layer in model.encoder.modules()]
    frames = EXAMPLE_SECONDS * checkpoint.front_end.frame_rate
    features = torch.zeros(1, checkpoint.front_end.mels, frames)
    try:
        encoded, *_ = model.forward(processed_signal=features, processed_signal_length=torch.tensor([frames]))
    finally:
        for hook in hooks:
            hook.remove()
    scores = sum(decoder.scores_of(encoded).nbytes for decoder in checkpoint.decoders)
    return Activations(largest / EXAMPLE_SECONDS, scores / EXAMPLE_SECONDS)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
