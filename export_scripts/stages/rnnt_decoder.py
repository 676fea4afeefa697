"""RNNT greedy decoding as one graph: a loop over the prediction network and the joint for a whole batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from export_scripts.operators.builder import Graph, ints
from export_scripts.operators.ragged import Padded, pack, padded, ragged_input
from export_scripts.stages.text import Pieces, emit_transcript

FRAMES_A_STEP = 4
"""Frames that a step looks at: most are blank, and a step ends at the first that is not."""

ACTIVATIONS = {"ReLU": "Relu", "Sigmoid": "Sigmoid", "Tanh": "Tanh"}
"""The joint's activation, by PyTorch's name and ONNX's."""


@dataclass(frozen=True)
class Linear:
    """weight float32 [inputs, outputs], bias float32 [outputs]."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class LstmLayer:
    """PyTorch's parameters of one layer, transposed; gates are in its order: input, forget, cell, output.

    inputs: the input's, with both biases; hidden: float32 [hidden, 4 * hidden], the state's
    """

    inputs: Linear
    hidden: np.ndarray


@dataclass(frozen=True)
class Transducer:
    """What decoding needs of an RNNT model besides its encoder.

    embedding: float32 [pieces + 1, inputs]; the last row is the blank's, which begins a text
    max_symbols: tokens that one frame may have
    """

    embedding: np.ndarray
    layers: tuple[LstmLayer, ...]
    prediction: Linear
    output: Linear
    activation: str
    max_symbols: int

    @property
    def joint_size(self) -> int:
        return int(self.output.weight.shape[0])

    @property
    def blank(self) -> int:
        return int(self.output.weight.shape[1]) - 1


def rnnt_decoder_graph(transducer: Transducer, pieces: Pieces, frames_a_step: int = FRAMES_A_STEP) -> onnx.ModelProto:
    """ENCODED float32 (ragged), the joint's projection of the encoder -> TEXT, TOKENS, FRAMES, TOKENS_LENGTH.

    Graves 2012, "Sequence transduction with recurrent neural networks"; the tokens are those of NeMo's
    greedy_batch (GreedyBatchedRNNTLabelLoopingComputer in parts/submodules/transducer_decoding). A step
    of the loop takes each item to its next token, or some frames on where there is none.
    """
    g = Graph("rnnt")
    encoded = padded(g, ragged_input(g, "ENCODED", TensorProto.FLOAT, width=transducer.joint_size))
    tokens, frames = _loop(g, encoded, transducer, frames_a_step)
    kept = g.GreaterOrEqual(tokens, np.array(0))
    (tokens, frames), length = pack(g, [tokens, frames], kept)
    emit_transcript(g, tokens, frames, length, pieces)
    return g.model()


def _loop(g: Graph, encoded: Padded, transducer: Transducer, frames_a_step: int) -> tuple[str, str]:
    """int64 [B, steps] each: the token that a step found or -1, and its frame."""
    items = g.Shape(encoded.values, start=0, end=1)
    longest = g.Shape(encoded.values, start=1, end=2)
    table = g.Reshape(encoded.values, ints(-1, transducer.joint_size))
    first_row = g.Mul(g.Range(np.array(0), g.Squeeze(items), np.array(1)), longest)
    outer = {"table": table, "first_row": first_row, "last": g.Sub(longest, np.array(1)), "length": encoded.length}

    start = _start(transducer)
    zeros = g.Expand(np.array(0), items)
    state = [zeros, zeros] + [g.Expand(row, g.Concat(items, ints(1), axis=0)) for row in start]
    body = _step(transducer, outer, len(start), frames_a_step)
    results = g.add("Loop", ["", np.array(True), *state], len(state) + 2, body=body.graph())
    tokens, frames = (g.Transpose(column, perm=[1, 0]) for column in results[-2:])
    return tokens, frames


def _step(transducer: Transducer, outer: dict[str, str], states: int, frames_a_step: int) -> Graph:
    """The loop's body; it carries each item's frame, tokens at that frame, LSTM states and projected prediction."""
    g = Graph("step")
    g.input("step_number", TensorProto.INT64, [])
    g.input("go_on_in", TensorProto.BOOL, [])
    frame = g.input("frame_in", TensorProto.INT64, ["items"])
    symbols = g.input("symbols_in", TensorProto.INT64, ["items"])
    carried = [g.input(f"state_{index}_in", TensorProto.FLOAT, ["items", "width"]) for index in range(states)]
    *memory, predicted = carried

    label, spoken = _labels_ahead(g, transducer, outer, frame, predicted, frames_a_step)
    ahead = g.ArgMax(spoken, axis=1, keepdims=1)
    found = g.Cast(g.ReduceMax(spoken, ints(1), keepdims=0), to=TensorProto.BOOL)
    token = g.Squeeze(g.GatherElements(label, ahead, axis=1), ints(1))
    ahead = g.Squeeze(ahead, ints(1))
    found_at = g.Add(frame, ahead)

    same_frame = g.Where(g.Equal(ahead, np.array(0)), symbols, np.array(0))
    counted = g.Where(found, g.Add(same_frame, np.array(1)), np.array(0))
    full = g.GreaterOrEqual(counted, np.array(transducer.max_symbols))
    after_token = g.Add(found_at, g.Cast(full, to=TensorProto.INT64))
    next_frame = g.Where(found, after_token, g.Add(frame, np.array(frames_a_step)))
    go_on = g.ReduceMax(g.Cast(g.Less(next_frame, outer["length"]), to=TensorProto.INT64), keepdims=0)

    g.output("go_on", g.Cast(go_on, to=TensorProto.BOOL), TensorProto.BOOL, [])
    g.output("frame", next_frame, TensorProto.INT64, ["items"])
    g.output("symbols", g.Where(full, np.array(0), counted), TensorProto.INT64, ["items"])
    updated = _predict(g, transducer, token, memory)
    keep_row = g.Unsqueeze(found, ints(1))
    for index, (new, old) in enumerate(zip(updated, carried, strict=True)):
        g.output(f"state_{index}", g.Where(keep_row, new, old), TensorProto.FLOAT, ["items", "width"])
    g.output("token", g.Where(found, token, np.array(-1)), TensorProto.INT64, ["items"])
    g.output("token_frame", found_at, TensorProto.INT64, ["items"])
    return g


def _labels_ahead(
    g: Graph, transducer: Transducer, outer: dict[str, str], frame: str, predicted: str, frames_a_step: int
) -> tuple[str, str]:
    """[B, frames_a_step] each: the best label of the next frames, int64, and whether it is a token, float32 1 or 0."""
    frames = g.Add(g.Unsqueeze(frame, ints(1)), np.arange(frames_a_step, dtype=np.int64)[None])
    own = g.Less(frames, g.Unsqueeze(outer["length"], ints(1)))
    rows = g.Add(g.Min(frames, outer["last"]), g.Unsqueeze(outer["first_row"], ints(1)))
    summed = g.Add(g.Gather(outer["table"], rows, axis=0), g.Unsqueeze(predicted, ints(1)))
    activated = getattr(g, ACTIVATIONS[transducer.activation])(summed)
    logits = g.Add(g.MatMul(activated, transducer.output.weight), transducer.output.bias)
    label = g.ArgMax(logits, axis=2, keepdims=0)
    spoken = g.And(g.Not(g.Equal(label, np.array(transducer.blank))), own)
    # onnxruntime 1.19 has no ArgMax of int64, and its CUDA provider none of int32.
    return label, g.Cast(spoken, to=TensorProto.FLOAT)


def _predict(g: Graph, transducer: Transducer, token: str, memory: list[str]) -> list[str]:
    """The state after `token` int64 [B]: hidden and cell of each layer, and the projected prediction."""
    # The first layer's product with its input is looked up: there are only as many inputs as tokens.
    gates = g.Gather(_gates_by_token(transducer), token, axis=0)
    state: list[str] = []
    for layer, (hidden, cell) in zip(transducer.layers, zip(memory[::2], memory[1::2], strict=True), strict=True):
        if state:
            gates = g.Add(g.MatMul(state[-2], layer.inputs.weight), layer.inputs.bias)
        gates = g.Add(gates, g.MatMul(hidden, layer.hidden))
        entry, forget, candidate, out = g.add("Split", [gates], 4, axis=1, num_outputs=4)
        kept = g.Mul(g.Sigmoid(forget), cell)
        cell = g.Add(kept, g.Mul(g.Sigmoid(entry), g.Tanh(candidate)))
        state += [g.Mul(g.Sigmoid(out), g.Tanh(cell)), cell]
    predicted = g.Add(g.MatMul(state[-2], transducer.prediction.weight), transducer.prediction.bias)
    return [*state, predicted]


def _gates_by_token(transducer: Transducer) -> np.ndarray:
    first = transducer.layers[0].inputs
    table: np.ndarray = transducer.embedding @ first.weight + first.bias
    return table


def _start(transducer: Transducer) -> list[np.ndarray]:
    """The state [1, width] of each kind before anything is said: one step on the blank from nothing."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        result: np.ndarray = 1 / (1 + np.exp(-x))
        return result

    gates = _gates_by_token(transducer)[transducer.blank][None]
    state: list[np.ndarray] = []
    for layer in transducer.layers:
        if state:
            gates = state[-2] @ layer.inputs.weight + layer.inputs.bias
        entry, _, candidate, out = np.split(gates, 4, axis=1)
        cell = sigmoid(entry) * np.tanh(candidate)
        state += [sigmoid(out) * np.tanh(cell), cell]
    state.append(state[-2] @ transducer.prediction.weight + transducer.prediction.bias)
    return [row.astype(np.float32) for row in state]
