"""RNNT and TDT greedy decoding as one graph: a loop runs prediction network and joint for the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.operators.ragged import Padded, pack, padded, ragged_input
from export_scripts.stages.rnnt_window import Window, find_first_token
from export_scripts.stages.text import Pieces, give_transcript
from nemo_triton.contract import DURATIONS, ENCODED, TOO_MANY_TOKENS

FRAMES_PER_STEP = 4
"""Frames that a step of the loop evaluates. Most are blank, and a step ends at the first that is not."""

MAX_SYMBOLS = 100
"""Most tokens that one frame may have if NeMo has no limit. A frame is 40 or 80 ms of speech, which has a few tokens.

NeMo would never end where the blank never wins; here the request fails.
"""
NO_LIMIT = MAX_SYMBOLS + 1
"""Value of RnntWeights.max_symbols if NeMo has no limit."""
TOO_MANY_SYMBOLS = f"more than {MAX_SYMBOLS} {TOO_MANY_TOKENS}; use a checkpoint whose decoding has max_symbols"
"""Name of the node that fails, which onnxruntime's error quotes."""

ACTIVATIONS = {"ReLU": "Relu", "Sigmoid": "Sigmoid", "Tanh": "Tanh"}
"""Activations of the joint: PyTorch's name -> ONNX's."""


@dataclass(frozen=True)
class Linear:
    """A linear layer.

    Attributes:
        weight: float32 [inputs, outputs].
        bias: float32 [outputs].
    """

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class LstmLayer:
    """One LSTM layer, from PyTorch's parameters, transposed; gates in its order: input, forget, cell, output.

    Attributes:
        inputs: Weights of the input, with the sum of both biases.
        hidden: float32 [hidden, 4 * hidden], weights of the state.
    """

    inputs: Linear
    hidden: np.ndarray


@dataclass(frozen=True, kw_only=True)
class RnntWeights:
    """The parts of an RNNT model that decoding needs after the encoder.

    Attributes:
        embedding: float32 [pieces + 1, inputs]; the last row is the blank's, which starts a text.
        layers: Layers of the prediction network.
        prediction: Projection of the prediction in the joint.
        output: Last layer of the joint.
        activation: Activation of the joint, by PyTorch's name.
        max_symbols: Largest number of tokens per frame: the next token is looked for in the next frame. NO_LIMIT: a
            frame with more than MAX_SYMBOLS is an error.
        durations: Frames that a label of a TDT model may last, by the joint's last outputs. Empty for plain RNNT.
    """

    embedding: np.ndarray
    layers: tuple[LstmLayer, ...]
    prediction: Linear
    output: Linear
    activation: str
    max_symbols: int
    durations: tuple[int, ...] = ()

    @property
    def has_limit(self) -> bool:
        return self.max_symbols <= MAX_SYMBOLS

    @property
    def joint_size(self) -> int:
        return int(self.output.weight.shape[0])

    @property
    def blank(self) -> int:
        return int(self.output.weight.shape[1]) - 1 - len(self.durations)


def rnnt_decoder_graph(weights: RnntWeights, pieces: Pieces, frames_per_step: int = FRAMES_PER_STEP) -> onnx.ModelProto:
    """ENCODED float32 (ragged), the joint's projection of the encoder -> TEXT, TOKENS, FRAMES, TOKENS_LENGTH.

    A TDT model has DURATIONS too. Tokens are those of NeMo's greedy_batch. Each step of the loop advances each item to
    its next token, or past `frames_per_step` frames if there is none. With NO_LIMIT, a frame with too many tokens fails
    the whole batch: ONNX has no error of one item.

    Source: Graves 2012, "Sequence transduction with recurrent neural networks"; Xu et al. 2023, "Efficient sequence
    transduction by jointly predicting tokens and durations"; NeMo's GreedyBatchedRNNTLabelLoopingComputer and
    GreedyBatchedTDTLabelLoopingComputer in parts/submodules/transducer_decoding.
    """
    g = Graph("rnnt")
    encoded = padded(g, ragged_input(g, ENCODED, width=weights.joint_size))
    tokens, *details = greedy_search(g, encoded, weights, frames_per_step)
    (tokens, frames, *durations), length = pack(g, [tokens, *details], tokens >= 0)
    refusal = "" if weights.has_limit else TOO_MANY_SYMBOLS
    give_transcript(g, tokens=tokens, frames=frames, length=length, pieces=pieces, refusal=refusal)
    for column in durations:
        g.give(DURATIONS, column.astype(np.int32))
    return g.model()


def greedy_search(g: Graph, encoded: Padded, weights: RnntWeights, frames_per_step: int) -> list[Value]:
    """Token of each step, or -1, and its frame, and for TDT its duration in frames: int64 [B, steps] each.

    With NO_LIMIT, an item ends at a frame with too many tokens, and its last token is the blank.
    """
    items, longest = encoded.values.size(0), encoded.values.size(1)
    rows = _Rows(
        table=encoded.values.reshape(-1, weights.joint_size),
        first=g.arange(items.squeeze()) * longest,
        last_frame=longest - 1,
        length=encoded.length,
    )
    start = _start(weights)
    zeros = g.Expand(0, items)
    state = [zeros, zeros] + [g.Expand(row, g.Concat(items, ints(1), axis=0)) for row in start]
    body = _step(weights, rows, states=len(start), frames_per_step=frames_per_step)
    columns = 3 if weights.durations else 2
    results = g.add("Loop", ["", np.array(True), *state], len(state) + columns, body=body.graph())
    return [column.transpose(1, 0) for column in results[len(state) :]]


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The encoded frames of a batch, as the loop's body reads them.

    Attributes:
        table: float32 [B * longest, joint size].
        first: int64 [B], row of each item's first frame.
        last_frame: int64 [1], last frame of the longest item.
        length: int64 [B], frames of each item.
    """

    table: Value
    first: Value
    last_frame: Value
    length: Value

    def read_by(self, body: Graph) -> _Rows:
        """The same rows, for calculations in the loop's body."""
        return _Rows(
            table=body.read(self.table),
            first=body.read(self.first),
            last_frame=body.read(self.last_frame),
            length=body.read(self.length),
        )


def _step(weights: RnntWeights, rows: _Rows, *, states: int, frames_per_step: int) -> Graph:
    """The loop's body. It carries each item's frame, tokens at that frame, LSTM states and projected prediction."""
    g = Graph("step")
    rows = rows.read_by(g)
    g.input("step_number", TensorProto.INT64, [])
    g.input("go_on_in", TensorProto.BOOL, [])
    frame = g.input("frame_in", TensorProto.INT64, ["items"])
    symbols = g.input("symbols_in", TensorProto.INT64, ["items"])
    carried = [g.input(f"state_{index}_in", TensorProto.FLOAT, ["items", "width"]) for index in range(states)]
    *memory, predicted = carried

    frames = frame[:, None] + np.arange(frames_per_step, dtype=np.int64)[None]
    window = _window(g, weights, rows, frames=frames, predicted=predicted)
    first = find_first_token(g, window, frames_per_step, longest_duration=max(weights.durations, default=1))
    token, any_token = first.token, first.exists
    token_frame = frame + first.ahead

    same_frame = g.Where(first.ahead == 0, symbols, 0)
    counted = g.Where(any_token, same_frame + 1, 0)
    full = counted >= weights.max_symbols
    leaves, moves = full, full.astype(np.int64)
    if first.duration is not None:
        moves = g.Max(moves, first.duration)
        leaves = moves > 0
    next_frame = g.Where(any_token, token_frame + moves, frame + first.searched)
    if not weights.has_limit:
        token = g.Where(full, weights.blank, token)
        next_frame = g.Where(full, rows.length, next_frame)
    go_on = (next_frame < rows.length).astype(np.int64).max()

    g.output("go_on", go_on.astype(np.bool_), TensorProto.BOOL, [])
    g.output("frame", next_frame, TensorProto.INT64, ["items"])
    g.output("symbols", g.Where(leaves, 0, counted), TensorProto.INT64, ["items"])
    updated = _predict(g, weights, token, memory)
    is_updated = any_token[:, None]
    for index, (new, old) in enumerate(zip(updated, carried, strict=True)):
        g.output(f"state_{index}", g.Where(is_updated, new, old), TensorProto.FLOAT, ["items", "width"])
    g.output("token", g.Where(any_token, token, -1), TensorProto.INT64, ["items"])
    g.output("token_frame", token_frame, TensorProto.INT64, ["items"])
    if first.duration is not None:
        g.output("token_duration", first.duration, TensorProto.INT64, ["items"])
    return g


def _window(g: Graph, weights: RnntWeights, rows: _Rows, *, frames: Value, predicted: Value) -> Window:
    """The best labels at some frames, if no token comes between.

    Args:
        g: Body of the loop.
        weights: Weights of the joint.
        rows: Encoded frames of the batch.
        frames: int64 [B, frames]; may be beyond an item's end.
        predicted: float32 [B, joint size], projected prediction.
    """
    within = frames < rows.length[:, None]
    row = g.Min(frames, rows.last_frame) + rows.first[:, None]
    activate = getattr(g, ACTIVATIONS[weights.activation])
    logits = activate(rows.table[row] + predicted[:, None]) @ weights.output.weight + weights.output.bias
    duration, labels = None, weights.blank + 1
    if weights.durations:
        duration = g.Gather(np.array(weights.durations), logits[:, :, labels:].argmax(axis=2), axis=0)
        logits = logits[:, :, :labels]
    label = logits.argmax(axis=2)
    is_token = (label != weights.blank) & within
    return Window(label=label, is_token=is_token, within=within, duration=duration)


def _predict(g: Graph, weights: RnntWeights, token: Value, memory: Sequence[Value]) -> list[Value]:
    """The state after tokens int64 [B]: hidden and cell of each layer, and the projected prediction."""
    # The first layer's product with its input is a table look-up, since there are only as many inputs as tokens.
    gates = g.Gather(_gates_by_token(weights), token, axis=0)
    state: list[Value] = []
    for layer, (hidden, cell) in zip(weights.layers, zip(memory[::2], memory[1::2], strict=True), strict=True):
        if state:
            gates = state[-2] @ layer.inputs.weight + layer.inputs.bias
        gates = gates + hidden @ layer.hidden
        entry, forget, candidate, out = g.add("Split", [gates], 4, axis=1, num_outputs=4)
        cell = g.Sigmoid(forget) * cell + g.Sigmoid(entry) * g.Tanh(candidate)
        state += [g.Sigmoid(out) * g.Tanh(cell), cell]
    return [*state, state[-2] @ weights.prediction.weight + weights.prediction.bias]


def _gates_by_token(weights: RnntWeights) -> np.ndarray:
    first = weights.layers[0].inputs
    table: np.ndarray = weights.embedding @ first.weight + first.bias
    return table


def _start(weights: RnntWeights) -> list[np.ndarray]:
    """Initial states [1, width]: those after one step on the blank, from zeros."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        result: np.ndarray = 1 / (1 + np.exp(-x))
        return result

    gates = _gates_by_token(weights)[weights.blank][None]
    state: list[np.ndarray] = []
    for layer in weights.layers:
        if state:
            gates = state[-2] @ layer.inputs.weight + layer.inputs.bias
        entry, _, candidate, out = np.split(gates, 4, axis=1)
        cell = sigmoid(entry) * np.tanh(candidate)
        state += [sigmoid(out) * np.tanh(cell), cell]
    state.append(state[-2] @ weights.prediction.weight + weights.prediction.bias)
    return [row.astype(np.float32) for row in state]
