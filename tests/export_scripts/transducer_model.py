"""A small RNNT or TDT decoder of NeMo's classes, without an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from feeds import names, ragged_feeds
from nemo.collections.asr.modules import RNNTDecoder, RNNTJoint
from nemo.collections.asr.parts.submodules.rnnt_greedy_decoding import GreedyBatchedRNNTInfer, GreedyBatchedTDTInfer
from omegaconf import OmegaConf

from export_scripts.checkpoints.families import RnntDecoder
from nemo_triton.contract import DURATIONS, ENCODED, FRAMES, TEXT, TOKENS

WIDTH, PIECES = 20, 30
LETTERS = tuple(chr(ord("a") + piece % 26) for piece in range(PIECES))
Encoded = npt.NDArray[np.float32]
Decoded = tuple[Any, ...]
"""Text, tokens, their frames, and for TDT their durations."""


class Model:
    """NeMo's prediction network, joint and greedy search, with the attributes of its models."""

    def __init__(
        self, layers: int, activation: str, max_symbols: int | None, durations: Sequence[int] | None = None
    ) -> None:
        torch.manual_seed(11)
        self.durations = durations
        sizes = {"pred_hidden": 16, "pred_rnn_layers": layers}
        self.decoder: Any = RNNTDecoder(prednet=sizes, vocab_size=PIECES, blank_as_pad=True).eval()
        jointnet = {"encoder_hidden": WIDTH, "pred_hidden": 16, "joint_hidden": 24, "activation": activation}
        extra = len(durations or ())
        joint = RNNTJoint(jointnet=jointnet, num_classes=PIECES, vocabulary=list(LETTERS), num_extra_outputs=extra)
        self.joint: Any = joint.eval()
        attributes = {"decoding": self._search(max_symbols), "blank_id": PIECES, "durations": durations}
        self.decoding: Any = type("Decoding", (), attributes)()
        self.cfg: Any = OmegaConf.create({"decoding": {"strategy": "greedy_batch"}})
        with torch.no_grad():
            self.joint.joint_net[-1].weight.mul_(9)
            self.joint.joint_net[-1].bias.zero_()[PIECES] = 4.0

    def change_decoding_strategy(self, config: Any, verbose: bool) -> None:
        self.decoding.decoding = self._search(config["greedy"]["max_symbols"])

    def _search(self, limit: int | None) -> Any:
        if not self.durations:
            return GreedyBatchedRNNTInfer(self.decoder, self.joint, PIECES, max_symbols_per_step=limit)
        return GreedyBatchedTDTInfer(
            self.decoder,
            self.joint,
            PIECES,
            durations=list(self.durations),
            max_symbols_per_step=limit,
            include_duration=True,
        )


def encodings(*lengths: int) -> list[Encoded]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.normal(0, 2, (length, WIDTH)).astype(np.float32) for length in lengths]


@torch.no_grad()
def projected(model: Model, encoded: Encoded) -> Encoded:
    result: Encoded = model.joint.enc(torch.from_numpy(encoded)).numpy()
    return result


def decode(model: Model, graph: ort.InferenceSession, batch: Sequence[Encoded]) -> list[Decoded]:
    rows = [projected(model, item) if len(item) else np.ones((1, 24), np.float32) for item in batch]
    feeds = ragged_feeds(ENCODED, rows, [len(item) for item in batch])
    outputs = [TEXT, TOKENS.length, TOKENS, FRAMES] + ([DURATIONS] if model.durations else [])
    text, length, *columns = graph.run(names(outputs), feeds)
    for column in columns:
        assert (column[np.arange(column.shape[1]) >= length] == -1).all()
    return [
        (text[row, 0], *(column[row, :count].tolist() for column in columns)) for row, count in enumerate(length[:, 0])
    ]


@torch.no_grad()
def by_nemo(model: Model, encoded: Encoded) -> Decoded:
    (hypothesis,) = model.decoding.decoding(
        encoder_output=torch.from_numpy(encoded.T[None].copy()), encoded_lengths=torch.tensor([len(encoded)])
    )[0]
    columns = [hypothesis.y_sequence, hypothesis.timestamp] + ([hypothesis.token_duration] if model.durations else [])
    tokens, *details = ([int(number) for number in column] for column in columns)
    return "".join(LETTERS[token] for token in tokens), tokens, *details


def check_ties(model: Model, encoded: Encoded, first: int, second: int, is_tie: bool) -> None:
    """Check the judge on a transcript that has `second` in place of the first `first`."""
    scores = projected(model, encoded)
    _, tokens, frames, *_ = by_nemo(model, encoded)
    decoder = RnntDecoder(model)
    assert not decoder.differs_by_a_tie(scores, np.array(tokens), np.array(frames), scores), "nothing differs"
    place = tokens.index(first)
    exported = np.array([*tokens[:place], second, *tokens[place + 1 :]])
    assert decoder.differs_by_a_tie(scores, exported, np.array(frames), scores) == is_tie
