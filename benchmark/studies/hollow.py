"""Recognizers without their networks, for benchmark.studies.variants.write_variant: what is left is the server's cost.

Features are zeros, and labels don't depend on them. Tensors have the shapes of a model with 100 frames of features and
25 labels per second.
"""

from __future__ import annotations

import numpy as np
import onnx

from benchmark.studies.variants import RecognizerVariant, Step
from export_scripts.errors import ExportError
from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.operators.ragged import Ragged, give_length, ragged_input, time_mask
from nemo_triton.contract import FEATURES, LABELS, LOG_PROBS, SAMPLES

SAMPLES_PER_FRAME = 160
FRAMES_PER_LABEL = 4
LABELLED_FRAMES = 2**16
"""Later frames repeat the last label."""
FRAMES_PER_TOKEN = 4
"""Frames of a token, and of the blank after it."""


def hollow(recognizer: RecognizerVariant) -> None:
    """Replace the graphs of features and encoder.

    Raises:
        ExportError: The recognizer is not a CTC model whose stages are audio, features, encoder and decoder.
    """
    features, encoder = recognizer.steps[1:3]
    widths = {output.name: output.dims[-1] for output in encoder.config.output}
    served = [output.name for output in recognizer.ensemble.config.output]
    if LOG_PROBS.name not in widths or LOG_PROBS.name in served:
        raise ExportError(f"{recognizer.ensemble.config.name}: not a CTC recognizer without log-probs; choose another")
    _replace(features, _features(mels=features.config.output[0].dims[-1]))
    _replace(encoder, _labels(mels=encoder.config.input[0].dims[-1], blank=widths[LOG_PROBS.name] - 1))


def _replace(step: Step, graph: onnx.ModelProto) -> None:
    names = [output.name for output in graph.graph.output]
    kept = [output for output in step.config.output if output.name in names]
    del step.config.output[:]
    step.config.output.extend(kept)
    step.graph = graph


def _features(mels: int) -> onnx.ModelProto:
    """SAMPLES int16 (ragged) -> FEATURES float32 [B, frames, mels] of zeros, FEATURES_LENGTH int32 [B, 1]."""
    g = Graph("hollow_features")
    samples = ragged_input(g, SAMPLES)
    length = samples.length // SAMPLES_PER_FRAME
    _, valid = time_mask(g, length)
    zero = _unused(samples).astype(np.float32)
    g.give(FEATURES, g.Expand(zero, g.Concat(valid.shape, ints(mels), axis=0)), mels=mels)
    give_length(g, FEATURES, length)
    return g.model()


def _labels(mels: int, blank: int) -> onnx.ModelProto:
    """FEATURES float32 (ragged) -> LABELS int32 [B, encoded], LABELS_LENGTH int32 [B, 1]."""
    g = Graph("hollow_encoder")
    features = ragged_input(g, FEATURES, mels=mels)
    length = features.length // FRAMES_PER_LABEL
    time, valid = time_mask(g, length)
    token = np.arange(LABELLED_FRAMES) // FRAMES_PER_TOKEN
    table = g.constant(np.where(token % 2, blank, token % blank), "labels")
    labels = g.Gather(table, g.Min(time, LABELLED_FRAMES - 1), axis=0)[None] + _unused(features)
    g.give(LABELS, g.Where(valid, labels, 0).astype(np.int32))
    give_length(g, LABELS, length)
    return g.model()


def _unused(items: Ragged) -> Value:
    """0, int64 [1], computed from the items: onnxruntime refuses an input that the graph does not read."""
    return items.table.reshape(-1)[:1].astype(np.int64) * 0
