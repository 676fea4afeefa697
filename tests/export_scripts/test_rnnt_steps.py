"""How often the decoder's loop runs, as the benchmark counts it, beside the loop itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto
from tiny_models import NEW_NEMO

from benchmark.studies.rnnt_decoding import loop_steps
from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.checkpoints.families import RnntDecoder
from export_scripts.operators.builder import Graph
from export_scripts.operators.ragged import padded, ragged_input
from export_scripts.stages.rnnt_decoder import _loop


@pytest.mark.parametrize("frames_a_step", [1, 2, 4, 8])
def test_steps_are_the_loops_own(frames_a_step: int, checkpoint_file: Callable[[str, str], Path]) -> None:
    decoder = open_checkpoint(str(checkpoint_file("conformer_transducer", NEW_NEMO))).decoder
    assert isinstance(decoder, RnntDecoder)
    transducer = decoder.transducer
    g = Graph("counted")
    encoded = padded(g, ragged_input(g, "ENCODED", TensorProto.FLOAT, width=transducer.joint_size))
    tokens, frames = _loop(g, encoded, transducer, frames_a_step)
    g.output("TOKENS", tokens, TensorProto.INT64, ["items", "steps"])
    g.output("FRAMES", frames, TensorProto.INT64, ["items", "steps"])
    session = ort.InferenceSession(g.model().SerializeToString(), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    seen = set()
    for lengths in ([1], [7], [40, 3], [25, 24, 11], [2, 60]):
        rows = [2 * generator.standard_normal((length, transducer.joint_size), np.float32) for length in lengths]
        feeds = {
            "ENCODED": np.concatenate([row.ravel() for row in rows]),
            "ENCODED_SHAPE": np.array([row.shape for row in rows], np.int32),
            "ENCODED_LENGTH": np.array([[length] for length in lengths], np.int32),
        }
        found, at = session.run(["TOKENS", "FRAMES"], feeds)
        made = [(at[row][found[row] >= 0].tolist(), length) for row, length in enumerate(lengths)]
        assert loop_steps(made, frames_a_step, transducer.max_symbols) == found.shape[1]
        seen |= {len(token_frames) > 0 for token_frames, _ in made}
    assert True in seen, "some utterance has tokens"
