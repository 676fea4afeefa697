"""CTC greedy decoding: the best label of each frame becomes a sequence of tokens, and their text."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from export_scripts.operators.builder import Graph, ints
from export_scripts.operators.ragged import pack, padded, ragged_input
from export_scripts.stages.text import Pieces, emit_transcript


def ctc_decoder_graph(pieces: Pieces) -> onnx.ModelProto:
    """LABELS int32 (ragged) -> TEXT, TOKENS, FRAMES, TOKENS_LENGTH (see `emit_transcript`).

    A label is a token where it is not blank and differs from the label before it (Graves et al.
    2006, "Connectionist temporal classification", section 3.1; NeMo's
    AbstractCTCDecoding.decode_hypothesis). The blank follows the pieces: its id is their number.
    """
    g = Graph("ctc")
    labels = padded(g, ragged_input(g, "LABELS", TensorProto.INT32), values=TensorProto.INT64)
    current = labels.values
    blank = np.array(len(pieces))
    before = g.Pad(g.Slice(current, ints(0), ints(-1), ints(1)), ints(0, 1, 0, 0), blank)
    token = g.And(g.Not(g.Equal(current, blank)), g.Not(g.Equal(current, before)))
    kept = g.And(token, labels.valid)

    time = g.Range(np.array(0), g.Squeeze(g.Shape(current, start=1, end=2)), np.array(1))
    frame = g.Expand(g.Unsqueeze(time, ints(0)), g.Shape(current))
    (tokens, frames), length = pack(g, [current, frame], kept)
    emit_transcript(g, tokens, frames, length, pieces)
    return g.model()
