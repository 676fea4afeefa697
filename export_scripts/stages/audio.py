"""Stage `audio`: prepare the samples that clients send for the ragged stages."""

from __future__ import annotations

import numpy as np
import onnx

from export_scripts.operators.builder import Graph, ints
from export_scripts.operators.ragged import give_length
from export_scripts.operators.refusal import refuse_if
from nemo_triton.contract import AUDIO, MAX_AUDIO_SECONDS, SAMPLES, audio_stage, too_long


def audio_graph(sample_rate: int, max_seconds: int = MAX_AUDIO_SECONDS) -> onnx.ModelProto:
    """AUDIO int16 [B, T] -> SAMPLES int16 [B, max(T, 1)] and SAMPLES_LENGTH int32 [B, 1], which is T.

    The only stage that is not ragged. Clients may send no samples at all, but ragged stages must never get an empty
    item (see `ragged_input`). All requests of its batches have the same length, so refused audio fails no other
    request.

    Args:
        sample_rate: Samples per second of the audio.
        max_seconds: Longest accepted audio. Longer audio is an error that names this limit, because a server that runs
            out of memory fails all of its clients.
    """
    g = Graph(audio_stage(max_seconds))
    audio = g.take(AUDIO)
    shape = audio.shape
    items, samples = shape[:1], shape[1:2]
    missing = g.Max(ints(1) - samples, ints(0))
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.int16))
    silence = g.ConstantOfShape(g.Concat(items, missing, axis=0), value=zero)
    g.give(SAMPLES, g.Concat(audio, silence, axis=1))
    accepted = samples + refuse_if(g, samples > ints(max_seconds * sample_rate), too_long(max_seconds))
    give_length(g, SAMPLES, g.Expand(accepted, items))
    return g.model()
