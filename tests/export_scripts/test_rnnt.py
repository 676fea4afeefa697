"""RNNT decoding in the graph, compared with NeMo's greedy_batch on the same encodings."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import torch
from feeds import names, open_graph, ragged_feeds
from nemo.collections.asr.modules import RNNTDecoder, RNNTJoint
from transducer_model import LETTERS, PIECES, WIDTH, Model, by_nemo, check_ties, decode, encodings

from export_scripts.checkpoints.families import RnntDecoder
from export_scripts.checkpoints.rnnt_weights import read_rnnt_weights
from export_scripts.stages.rnnt_decoder import (
    MAX_SYMBOLS,
    NO_LIMIT,
    TOO_MANY_SYMBOLS,
    Linear,
    LstmLayer,
    RnntWeights,
    rnnt_decoder_graph,
)
from export_scripts.stages.text import Pieces
from nemo_triton.contract import ENCODED, TRANSCRIPT


def numbers(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, np.float32)


NO_WEIGHTS = np.zeros((1, 4), np.float32)
COUNTING = RnntWeights(
    embedding=np.zeros((2, 1), np.float32),
    layers=(LstmLayer(Linear(NO_WEIGHTS, numbers(50, 50, 1e-4, 50)), NO_WEIGHTS),),
    prediction=Linear(numbers(1e4)[None], numbers(-1)),
    output=Linear(numbers(0, 1)[None], numbers(0.25, 0)),
    activation="ReLU",
    max_symbols=NO_LIMIT,
)
"""A transducer with one piece that counts its tokens: in a frame of 0.5 - n, the blank wins after n tokens in total."""


@pytest.fixture(scope="module", params=[(1, "relu", 10), (1, "tanh", 2), (2, "sigmoid", 3), (3, "relu", 1)], ids=str)
def model(request: pytest.FixtureRequest) -> Model:
    return Model(*request.param)


@pytest.fixture(scope="module")
def graph(model: Model) -> ort.InferenceSession:
    pieces = Pieces(LETTERS, LETTERS, (True,) * PIECES, frozenset())
    return open_graph(rnnt_decoder_graph(read_rnnt_weights(model), pieces))


def test_tokens_and_frames_equal_nemos(model: Model, graph: ort.InferenceSession) -> None:
    batch = encodings(61, 5, 1, 4, 40, 2, 3, 17)
    nemo = [by_nemo(model, item) for item in batch]
    assert sum(len(tokens) for _, tokens, _ in nemo) > 40
    most_at_a_frame = max(count for _, _, frames in nemo for count in Counter(frames).values())
    assert most_at_a_frame > 1 or model.decoding.decoding.max_symbols == 1
    assert decode(model, graph, batch) == nemo
    assert [decode(model, graph, [item])[0] for item in batch] == nemo


@pytest.mark.parametrize("max_symbols", [None, 1000])
def test_without_a_limit_nemos_search_ends_too(max_symbols: int | None) -> None:
    model = Model(1, "relu", max_symbols)
    assert RnntDecoder(model).weights.max_symbols == NO_LIMIT
    assert model.decoding.decoding.max_symbols == NO_LIMIT


def test_without_a_limit_a_frame_with_too_many_tokens_is_an_error() -> None:
    graph = open_graph(rnnt_decoder_graph(COUNTING, Pieces(("a",), ("a",), (True,), frozenset())))

    def tokens_by_frame(*batch: list[int]) -> list[list[int]]:
        rows = [(0.5 - np.cumsum(item, dtype=np.float32))[:, None] for item in batch]
        text, _, frames, length = graph.run(names(TRANSCRIPT), ragged_feeds(ENCODED, rows))
        assert [row[0] for row in text] == ["a" * sum(item) for item in batch]
        return [
            np.bincount(frames[row, :count], minlength=len(batch[row])).tolist()
            for row, count in enumerate(length[:, 0])
        ]

    most = [3, 0, MAX_SYMBOLS, 1]
    assert tokens_by_frame(most, [0], [2, 1]) == [most, [0], [2, 1]]
    too_many = [2, MAX_SYMBOLS + 1, 1]
    for batch in ([too_many], [[2, 1], too_many, [0]]):
        with pytest.raises(Exception, match=TOO_MANY_SYMBOLS):
            tokens_by_frame(*batch)
    assert tokens_by_frame([2, 1], [0]) == [[2, 1], [0]], "the others of the failed batch"


def test_items_without_frames(model: Model, graph: ort.InferenceSession) -> None:
    nothing, something = encodings(0, 30)
    assert decode(model, graph, [nothing]) == [("", [], [])]
    assert decode(model, graph, [nothing, something, nothing])[1] == by_nemo(model, something)


def test_only_blanks(model: Model) -> None:
    with torch.no_grad():
        model.joint.joint_net[-1].bias[-1] = 1000.0
        pieces = Pieces(LETTERS, LETTERS, (True,) * PIECES, frozenset())
        silent = open_graph(rnnt_decoder_graph(read_rnnt_weights(model), pieces))
        model.joint.joint_net[-1].bias[-1] = 4.0
    assert decode(model, silent, encodings(9, 3)) == [("", [], [])] * 2


@pytest.mark.parametrize(("lead", "is_tie"), [(1e-4, True), (1e-2, False)])
def test_only_a_close_choice_is_a_tie(lead: float, is_tie: bool) -> None:
    """Two labels are nearly equal; NeMo chooses the first and the export the other."""
    model = Model(1, "relu", 10)
    output = model.joint.joint_net[-1]
    (encoded,) = encodings(60)
    first = Counter[int](by_nemo(model, encoded)[1]).most_common(1)[0][0]
    second = (first + 1) % PIECES
    with torch.no_grad():
        output.weight[second] = output.weight[first]
        output.bias[first] = lead
    check_ties(model, encoded, first, second, is_tie)


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        ("norm", "only decoder.normalization_mode null can be exported"),
        ("extra", "num_extra_outputs is 5, but decoding.durations has 0: a multi-blank model can't be exported"),
        ("stateless", "only RNNTDecoder can be exported"),
    ],
)
def test_other_transducers_are_refused(part: str, complaint: str) -> None:
    model = Model(1, "relu", 3)
    if part == "norm":
        sizes = {"pred_hidden": 16, "pred_rnn_layers": 1}
        model.decoder = RNNTDecoder(prednet=sizes, vocab_size=PIECES, normalization_mode="layer")
    elif part == "extra":
        jointnet = {"encoder_hidden": WIDTH, "pred_hidden": 16, "joint_hidden": 24, "activation": "relu"}
        model.joint = RNNTJoint(jointnet=jointnet, num_classes=PIECES, num_extra_outputs=5)
    else:
        model.decoder = torch.nn.Identity()
    with pytest.raises(ValueError, match=complaint):
        read_rnnt_weights(model)
