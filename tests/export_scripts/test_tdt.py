"""TDT decoding in the graph, compared with NeMo's greedy_batch on the same encodings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from architectures import ARCHITECTURES, NEW_NEMO
from feeds import open_graph
from nemo.collections.asr.parts.submodules.rnnt_greedy_decoding import GreedyBatchedTDTInfer
from tiny_models import read_config, rewrite_config, save_tiny_model
from transducer_model import LETTERS, PIECES, Model, by_nemo, check_ties, decode, encodings, projected

from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.checkpoints.families import RnntDecoder
from export_scripts.checkpoints.rnnt_weights import read_rnnt_weights
from export_scripts.stages.rnnt_decoder import MAX_SYMBOLS, NO_LIMIT, TOO_MANY_SYMBOLS, rnnt_decoder_graph
from export_scripts.stages.text import Pieces
from nemo_triton.contract import DURATIONS

VARIANTS = [
    (1, "relu", 10, (0, 1, 2, 3, 4)),
    (2, "relu", 2, (0, 1, 2, 3, 4)),
    (1, "tanh", 1, (0, 1, 2, 4, 8)),
    (1, "relu", 3, (0, 1)),
    (1, "relu", 5, (1, 6)),
    (1, "relu", 4, (3, 0, 2)),
]


def graph_of(model: Model, frames_per_step: int) -> ort.InferenceSession:
    pieces = Pieces(LETTERS, LETTERS, (True,) * PIECES, frozenset())
    return open_graph(rnnt_decoder_graph(read_rnnt_weights(model), pieces, frames_per_step))


@pytest.mark.parametrize("frames_per_step", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_tokens_frames_and_durations_equal_nemos(
    variant: tuple[int, str, int, tuple[int, ...]], frames_per_step: int
) -> None:
    model = Model(*variant)
    graph = graph_of(model, frames_per_step)
    batch = encodings(61, 5, 1, 4, 40, 2, 3, 17, 90)
    nemo = [by_nemo(model, item) for item in batch]
    assert sum(len(tokens) for _, tokens, _, _ in nemo) > 20
    assert len({duration for *_, durations in nemo for duration in durations}) > 1
    assert decode(model, graph, batch) == nemo
    assert [decode(model, graph, [item])[0] for item in batch] == nemo


def test_some_frames_reach_the_limit() -> None:
    """Otherwise the variants above would not test it."""
    reached = 0
    for variant in VARIANTS:
        model = Model(*variant)
        for item in encodings(61, 40, 90):
            _, _, frames, durations = by_nemo(model, item)
            still = Counter(frame for frame, duration in zip(frames, durations, strict=True) if duration == 0)
            reached += sum(count >= variant[2] for count in still.values())
    assert reached > 5


def test_items_without_frames() -> None:
    model = Model(1, "relu", 10, (0, 1, 2, 3, 4))
    graph = graph_of(model, 4)
    nothing, something = encodings(0, 30)
    assert decode(model, graph, [nothing]) == [("", [], [], [])]
    assert decode(model, graph, [nothing, something, nothing])[1] == by_nemo(model, something)


def test_without_a_limit_a_frame_with_too_many_tokens_is_an_error() -> None:
    model = Model(1, "relu", None, (0, 1, 2, 3, 4))
    assert RnntDecoder(model).weights.max_symbols == NO_LIMIT
    (item,) = encodings(30)
    output = model.joint.joint_net[-1]
    with torch.no_grad():
        output.bias[PIECES + 1] = -100  # A duration of 0 never wins.
    assert decode(model, graph_of(model, 4), [item]) == [by_nemo(model, item)]
    with torch.no_grad():
        output.bias[PIECES], output.bias[PIECES + 1] = -1000, 1000  # No blank and no other duration ever wins.
    with pytest.raises(Exception, match=TOO_MANY_SYMBOLS):
        decode(model, graph_of(model, 4), [item])
    assert Counter[int](by_nemo(model, item)[2])[0] == MAX_SYMBOLS + 1


def test_the_search_of_a_checkpoint_is_the_batched_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NeMo's other greedy search moves on further after the last token of a full frame."""
    front_end, encoder, _ = ARCHITECTURES["conformer_transducer"]
    monkeypatch.setitem(ARCHITECTURES, "tdt", (front_end, encoder, "tdt"))
    file = tmp_path / "tdt.nemo"
    save_tiny_model("tdt", NEW_NEMO, file)
    rewrite_config(file, decoding={**read_config(file)["decoding"], "strategy": "greedy"})
    opened = open_checkpoint(str(file))
    assert isinstance(opened.model.decoding.decoding, GreedyBatchedTDTInfer)
    assert (opened.decoder.kind, opened.decoder.further_outputs) == ("tdt", (DURATIONS,))


@pytest.mark.parametrize("durations", [(0, 0), (-1, 2)])
def test_durations_without_progress_are_refused(durations: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="only 0 or more can be exported, and not only 0"):
        read_rnnt_weights(Model(1, "relu", 3, durations))


@pytest.mark.parametrize(("lead", "is_tie"), [(1e-4, True), (1e-2, False)])
def test_only_a_close_label_is_a_tie(lead: float, is_tie: bool) -> None:
    """Two labels are nearly equal; NeMo chooses the first and the export the other, and each time alike afterwards."""
    model = Model(1, "relu", 10, (0, 1, 2, 3, 4))
    output, embedding = model.joint.joint_net[-1], model.decoder.prediction["embed"]
    (encoded,) = encodings(60)
    first = Counter[int](by_nemo(model, encoded)[1]).most_common(1)[0][0]
    second = (first + 1) % PIECES
    with torch.no_grad():
        output.weight[second] = output.weight[first]
        embedding.weight[second] = embedding.weight[first]
        output.bias[first] = lead
    check_ties(model, encoded, first, second, is_tie)


@pytest.mark.parametrize(("lead", "is_tie"), [(1e-4, True), (1e-2, False)])
def test_only_a_close_duration_is_a_tie(lead: float, is_tie: bool) -> None:
    """Durations of 2 and 3 frames are nearly equal; NeMo always chooses 2, and the export 3."""
    model = Model(1, "relu", 10, (2, 3))
    output = model.joint.joint_net[-1]
    (encoded,) = encodings(60)
    with torch.no_grad():
        output.weight[PIECES + 2] = output.weight[PIECES + 1]
        output.bias[PIECES + 2] = lead
    longer = by_nemo(model, encoded)
    with torch.no_grad():
        output.bias[PIECES + 1], output.bias[PIECES + 2] = lead, 0
    assert by_nemo(model, encoded)[1:3] != longer[1:3]
    decoder, scores = RnntDecoder(model), projected(model, encoded)
    assert decoder.differs_by_a_tie(scores, np.array(longer[1]), np.array(longer[2]), scores) == is_tie
