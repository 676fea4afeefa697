"""Stage `audio`: prepare the samples that clients send for the ragged stages."""

from __future__ import annotations

import numpy as np
import onnx

from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.operators.ragged import give_length
from export_scripts.operators.refusal import refuse_if
from nemo_triton.contract import (
    FLOAT_AUDIO,
    INT16_AUDIO,
    MAX_AUDIO_SECONDS,
    NOT_FINITE,
    AudioFormat,
    audio_stage,
    too_long,
)

LARGEST_SAMPLE = 1e12
"""Largest float sample. The power of larger ones overflows float32, and the features would be NaN."""


def audio_graph(
    sample_rate: int, max_seconds: int = MAX_AUDIO_SECONDS, audio_format: AudioFormat = INT16_AUDIO
) -> onnx.ModelProto:
    """AUDIO [B, T] -> SAMPLES [B, max(T, 1)], the same samples, and SAMPLES_LENGTH int32 [B, 1], which is T.

    The only stage that is not ragged. Clients may send no samples at all, but ragged stages must never get an empty
    item (see `ragged_input`). All requests of its batches have the same length, so refused audio fails no other
    request.

    Args:
        sample_rate: Samples per second of the audio.
        max_seconds: Longest accepted audio. Longer audio is an error that names this limit, because a server that runs
            out of memory fails all of its clients.
        audio_format: Type of the samples: int16, or float32 with a full scale of 1.0. Float samples that are not
            finite are an error.
    """
    g = Graph(audio_stage(max_seconds, audio_format))
    audio = g.take(audio_format.audio)
    shape = audio.shape
    items, samples = shape[:1], shape[1:2]
    missing = g.Max(ints(1) - samples, ints(0))
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.float32 if audio_format is FLOAT_AUDIO else np.int16))
    silence = g.ConstantOfShape(g.Concat(items, missing, axis=0), value=zero)
    filled = g.Concat(audio, silence, axis=1)
    g.give(audio_format.samples, filled)
    accepted = samples + refuse_if(g, samples > ints(max_seconds * sample_rate), too_long(max_seconds))
    if audio_format is FLOAT_AUDIO:
        accepted = accepted + refuse_if(g, _unusable(g, filled), NOT_FINITE)
    give_length(g, audio_format.samples, g.Expand(accepted, items))
    return g.model()


def _unusable(g: Graph, samples: Value) -> Value:
    """Whether a sample is NaN, infinite or larger than LARGEST_SAMPLE: bool [1].

    Only reductions: values for each sample would take more memory than the audio.
    """
    in_range = (samples.max() <= LARGEST_SAMPLE) & (g.ReduceMin(samples, keepdims=0) >= -LARGEST_SAMPLE)
    # A maximum can lose NaN; a sum can't, and NaN fails the comparison.
    finite = g.ReduceL1(samples, keepdims=0) <= float(np.finfo(np.float32).max)
    return (~(in_range & finite)).reshape(1)
