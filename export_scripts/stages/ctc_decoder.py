"""CTC greedy decoding: from the best label of each frame to tokens and text."""

from __future__ import annotations

import numpy as np
import onnx

from export_scripts.operators.builder import Graph
from export_scripts.operators.ragged import pack, padded, ragged_input
from export_scripts.stages.text import Pieces, give_transcript
from nemo_triton.contract import LABELS


def ctc_decoder_graph(pieces: Pieces) -> onnx.ModelProto:
    """LABELS int32 (ragged) -> TEXT, TOKENS, FRAMES, TOKENS_LENGTH (see `give_transcript`).

    A label is a token if it is not blank and differs from the previous label. The blank is the last label: its id is
    the number of pieces.

    Source: Graves et al. 2006, "Connectionist temporal classification", section 3.1; NeMo's
    AbstractCTCDecoding.decode_hypothesis.
    """
    g = Graph("ctc")
    batch = padded(g, ragged_input(g, LABELS), dtype=np.int64)
    labels, blank = batch.values, len(pieces)
    before = labels[:, :-1].pad((0, 0), (1, 0), value=blank)
    is_token = (labels != blank) & (labels != before) & batch.valid

    frame = g.Expand(g.arange(labels.size(1).squeeze())[None, :], labels.shape)
    (tokens, frames), length = pack(g, [labels, frame], is_token)
    give_transcript(g, tokens=tokens, frames=frames, length=length, pieces=pieces)
    return g.model()
