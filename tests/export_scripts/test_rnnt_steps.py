"""The benchmark's count of the decoder's loop steps, compared with the loop itself."""

from __future__ import annotations

import numpy as np
import pytest
from feeds import names, open_graph, ragged_feeds
from fixture_types import OpenCheckpoint
from onnx import TensorProto

from benchmark.studies.rnnt_decoding import loop_steps
from export_scripts.checkpoints.families import RnntDecoder
from export_scripts.operators.builder import Graph
from export_scripts.operators.ragged import padded, ragged_input
from export_scripts.stages.rnnt_decoder import greedy_search
from nemo_triton.contract import ENCODED, FRAMES, TOKENS


@pytest.mark.parametrize("frames_per_step", [1, 2, 4, 8])
def test_counted_steps_equal_the_loops(frames_per_step: int, checkpoint: OpenCheckpoint) -> None:
    decoder = checkpoint("conformer_transducer").decoder
    assert isinstance(decoder, RnntDecoder)
    weights = decoder.weights
    g = Graph("counted")
    encoded = padded(g, ragged_input(g, ENCODED, width=weights.joint_size))
    tokens, frames = greedy_search(g, encoded, weights, frames_per_step)
    for tensor, column in ((TOKENS, tokens), (FRAMES, frames)):
        g.output(tensor.name, column, TensorProto.INT64, ["items", "steps"])
    session = open_graph(g.model())
    generator = np.random.default_rng(0)
    seen = set()
    for lengths in ([1], [7], [40, 3], [25, 24, 11], [2, 60]):
        rows = [2 * generator.standard_normal((length, weights.joint_size), np.float32) for length in lengths]
        steps, step_frames = session.run(names([TOKENS, FRAMES]), ragged_feeds(ENCODED, rows))
        utterances = [(step_frames[row][steps[row] >= 0].tolist(), length) for row, length in enumerate(lengths)]
        assert loop_steps(utterances, frames_per_step, weights.max_symbols) == steps.shape[1]
        seen |= {len(token_frames) > 0 for token_frames, _ in utterances}
    assert True in seen, "at least one utterance must have tokens"
