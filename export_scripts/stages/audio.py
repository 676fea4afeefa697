"""Stage `audio`: prepare the samples that clients send for the ragged stages."""

from __future__ import annotations

import numpy as np
import onnx

from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.operators.ragged import give_length
from nemo_triton.contract import AUDIO, AUDIO_STAGE, SAMPLES

MAX_SECONDS = 1200
"""Longer audio is refused, because a server that runs out of memory fails all of its clients."""


def audio_graph(sample_rate: int) -> onnx.ModelProto:
    """AUDIO int16 [B, T] -> SAMPLES int16 [B, max(T, 1)] and SAMPLES_LENGTH int32 [B, 1], which is T.

    The only stage that is not ragged. Clients may send no samples at all, but ragged stages must never get an empty
    item (see `ragged_input`). All requests of its batches have the same length, so refused audio fails no other
    request.

    Args:
        sample_rate: Samples per second of the audio.
    """
    g = Graph(AUDIO_STAGE)
    audio = g.take(AUDIO)
    shape = audio.shape
    items, samples = shape[:1], shape[1:2]
    missing = g.Max(ints(1) - samples, ints(0))
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.int16))
    silence = g.ConstantOfShape(g.Concat(items, missing, axis=0), value=zero)
    g.give(SAMPLES, g.Concat(audio, silence, axis=1))
    give_length(g, SAMPLES, g.Expand(samples + _refuse_long(g, samples, sample_rate), items))
    return g.model()


def _refuse_long(g: Graph, samples: Value, sample_rate: int) -> Value:
    """Zero, int64 [1], or an onnxruntime error that names the limit.

    ONNX has no operator that raises an error. A look-up beyond the end of a table fails, and the error quotes the
    node's name.
    """
    too_long = (samples > ints(MAX_SECONDS * sample_rate)).astype(np.int64)
    zero = g.Gather(ints(0), too_long)
    g.nodes[-1].name = f"audio is longer than {MAX_SECONDS} seconds"
    return zero
