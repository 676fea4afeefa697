"""NeMo's relative-position attention as one product of queries and keys, for GPUs.

A score is the sum of a product by content and one by position, (q_i + u) k_j + (q_i + v) W r(i - j), where r holds
sines and cosines of the distance (Dai et al. 2019, "Transformer-XL", section 3.3). That way, the second product has
twice as many columns as there are keys, and has to be shifted row by row.

By the addition theorems, r(i - j) is a rotation of r(j) by i. So the score is one product of two longer vectors:

- query: [(q_i + v) W rotated by i, q_i + u], the rotation of rotary position embeddings (Su et al. 2021, "RoFormer")
- key: [r(j), k_j]

Weights are combined when the model is loaded. docs/gpu.md says why this does not use onnxruntime's MultiHeadAttention.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionMultiHeadAttention
from onnx import TensorProto, helper

from export_scripts.operators.builder import CONTRIB, OTHER_OPSETS, Dims, Graph, Value, ints
from export_scripts.operators.walk import drop_unread

PLACEHOLDER = "nemo_triton"
"""Domain of the node that a trace has in place of each attention."""
ALIGNED = 8
"""Sizes of heads are multiples of this, since cuBLAS has faster kernels for aligned float16."""
WIDEST = 1024
"""Most numbers per head in RotaryEmbedding's CUDA kernel, which has one thread for each."""


class _Attention(torch.autograd.Function):
    """Traced as one node with the operands and weights of an attention."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor, heads: int, *weights: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the right shape; a trace doesn't need its numbers."""
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, mask: Any, heads: int, *weights: Any) -> Any:
        """The node."""
        return g.op(f"{PLACEHOLDER}::RelativeAttention", x, mask, *weights, heads_i=heads).setType(x.type())


def placeholder(
    self: RelPositionMultiHeadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    pos_emb: torch.Tensor,
    cache: None = None,
) -> torch.Tensor:
    """Stand in for NeMo's RelPositionMultiHeadAttention.forward; `with_rotated_attention` replaces its node.

    Args:
        self: NeMo's attention, which this replaces a method of.
        query: float32 [B, frames, D]; key and value are the same tensor.
        key: Not used.
        value: Not used.
        mask: bool [B, 1, frames], true if a frame is padding.
        pos_emb: Not used.
        cache: Not used.
    """
    layers = (self.linear_q, self.linear_k, self.linear_v, self.linear_out)
    none = torch.zeros(self.h * self.d_k)
    biases = (none if layer.bias is None else layer.bias for layer in layers)
    weights = [weight for layer, bias in zip(layers, biases, strict=True) for weight in (layer.weight, bias)]
    weights += [self.linear_pos.weight, self.pos_bias_u, self.pos_bias_v]
    apply: Callable[..., torch.Tensor] = _Attention.apply
    return apply(query, mask, self.h, *weights)


def with_rotated_attention(traced: onnx.ModelProto, *, width: int, scores_at_once: int) -> onnx.ModelProto:
    """Replace the node of each `placeholder`; returns a copy.

    Args:
        traced: Traced encoder.
        width: Numbers per frame of the attention's input, D.
        scores_at_once: Number of attention scores in memory at a time, see Tuning.

    Raises:
        ValueError: The attention is too wide.
    """
    if width > WIDEST:
        raise ValueError(
            f"encoder.d_model is {width}; with --target gpu it can be at most {WIDEST}: export with --target cpu"
        )
    model = onnx.ModelProto()
    model.CopyFrom(traced)
    nodes: list[onnx.NodeProto] = []
    shared: dict[str, _Shared] = {}
    for node in model.graph.node:
        if node.domain != PLACEHOLDER:
            nodes.append(node)
            continue
        g = Graph(node.name)
        heads = helper.get_attribute_value(node.attribute[0])
        x, mask = node.input[:2]
        if mask not in shared:
            sizes = {"heads": heads, "width": width, "scores_at_once": scores_at_once}
            shared[mask] = _shared(g, Value(g, x), Value(g, mask), **sizes)
        attended = _attend(g, [Value(g, name) for name in node.input], shared[mask])
        for new in g.nodes:
            new.output[:] = [node.output[0] if name == attended.name else name for name in new.output]
        nodes.extend(g.nodes)
        model.graph.initializer.extend(g.initializers)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid(CONTRIB, OTHER_OPSETS[CONTRIB]))
    drop_unread(model.graph)
    return model


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What all layers with the same mask share.

    Attributes:
        heads: Number of heads.
        width: Numbers per frame, D.
        mask: bool [B, 1, 1, frames], true if a frame is padding.
        cosines: float32 [frames, D / 2], of each frame's angles.
        sines: float32 [frames, D / 2].
        keys: float32 [B, frames, heads, D], the position part of the keys.
        scores_at_once: Number of attention scores in memory at a time.
        is_long: bool [], whether there are more scores than that.
    """

    heads: int
    width: int
    mask: Value
    cosines: Value
    sines: Value
    keys: Value
    scores_at_once: int
    is_long: Value

    @property
    def head(self) -> int:
        return self.width // self.heads

    @property
    def aligned(self) -> int:
        return math.ceil(self.head / ALIGNED) * ALIGNED


def _shared(g: Graph, x: Value, mask: Value, *, heads: int, width: int, scores_at_once: int) -> _Shared:
    """Compute it from an attention's input float32 [B, frames, D] and mask bool [B, 1, frames]."""
    items, frames = x.size(0), x.size(1)
    # In double precision until the angle is below a turn: after ten minutes a float32 angle is wrong by 0.001.
    rates = np.exp(np.arange(0, width, 2) * -(math.log(10000.0) / width)).astype(np.float32).astype(np.float64)
    turns = g.arange(frames.squeeze()).astype(np.float64)[:, None] * (rates / (2 * math.pi))
    angles = ((turns - g.Floor(turns)) * np.array(2 * math.pi)).astype(np.float32)
    sines, cosines = g.Sin(angles), g.Cos(angles)
    keys = g.Concat(g.Neg(sines)[:, :, None], cosines[:, :, None], axis=2).reshape(1, -1, 1, width)
    return _Shared(
        heads=heads,
        width=width,
        mask=mask[:, None],
        cosines=cosines,
        sines=sines,
        keys=g.Expand(keys, g.Concat(items, ints(1, heads, 1), axis=0)),
        scores_at_once=scores_at_once,
        is_long=(frames > _block(items, frames, heads=heads, scores_at_once=scores_at_once)).squeeze(),
    )


def _block(items: Value, frames: Value, *, heads: int, scores_at_once: int) -> Value:
    """Queries at a time, int64 [1]."""
    scores_per_query = items * frames * ints(heads)
    return items.graph.Max(items.graph.Div(ints(scores_at_once), scores_per_query), ints(1))


def _attend(g: Graph, operands: list[Value], shared: _Shared) -> Value:
    """The attention's result, float32 [B, frames, D].

    Args:
        g: Graph to add to.
        operands: Operands of the placeholder's node.
        shared: What all layers share.
    """
    x, _, q_weight, q_bias, k_weight, _, v_weight, v_bias, out_weight, out_bias, position, u, v = operands
    heads, width, head, aligned = shared.heads, shared.width, shared.head, shared.aligned

    def by_head(weight: Value) -> Value:
        """[D, heads, aligned], zero after each head, from a layer's weight [D, D]."""
        return _padded(weight.reshape(heads, head, width).transpose(2, 0, 1), 0, 0, aligned - head)

    # Scale the queries' weights, not the scores.
    q_weight, q_bias, u, v = (value * (1 / math.sqrt(head)) for value in (q_weight, q_bias, u, v))
    positions = position.reshape(heads, head, width)
    by_position = q_weight.reshape(heads, head, width).transpose(0, 2, 1) @ positions
    position_bias = (q_bias.reshape(heads, 1, head) + v.reshape(heads, 1, head)) @ positions
    content_bias = _padded(q_bias.reshape(heads, head) + u.reshape(heads, head), 0, aligned - head)
    query = _queries(
        g,
        x,
        shared,
        weights=(by_position.transpose(1, 0, 2), by_head(q_weight)),
        biases=(position_bias.reshape(heads, width), content_bias),
    )
    # A bias of the keys adds the same to all scores of a query, which softmax ignores.
    keys = (x @ by_head(k_weight).reshape(width, -1)).reshape(0, 0, heads, aligned)
    key = g.Concat(g.read(shared.keys), keys, axis=3)
    value = x @ by_head(v_weight).reshape(width, -1)
    rows = _padded(out_weight.reshape(width, heads, head), 0, 0, aligned - head).reshape(width, -1).transpose(1, 0)
    # The weights of a query sum to one, so the bias of the values passes through.
    bias = (out_weight @ v_bias[:, None]).reshape(width) + out_bias
    return _scaled_dot_product(g, query, key, value, shared) @ rows + bias


def _queries(
    g: Graph, x: Value, shared: _Shared, *, weights: tuple[Value, Value], biases: tuple[Value, Value]
) -> Value:
    """Queries float32 [B, frames, heads * (D + aligned)], with the part by position first in each head.

    Args:
        g: Graph to add to.
        x: float32 [B, frames, D].
        shared: What all layers share.
        weights: Weights of the parts by position and by content, [D, heads, part].
        biases: Biases of both parts, [heads, part].
    """
    heads, width, aligned = shared.heads, shared.width, shared.aligned

    def rotated(queries: Value) -> Value:
        return g.RotaryEmbedding(
            queries,
            ints(0),
            g.read(shared.cosines),
            g.read(shared.sines),
            domain=CONTRIB,
            interleaved=1,
            num_heads=heads,
            rotary_embedding_dim=width,
        )

    if width + aligned <= WIDEST:
        weight = g.Concat(*weights, axis=2).reshape(width, -1)
        return rotated(x @ weight + g.Concat(*biases, axis=1).reshape(-1))
    by_position, by_content = (
        x @ weight.reshape(width, -1) + bias.reshape(-1) for weight, bias in zip(weights, biases, strict=True)
    )
    parts = (rotated(by_position).reshape(0, 0, heads, width), by_content.reshape(0, 0, heads, aligned))
    return g.Concat(*parts, axis=3).reshape(0, 0, heads * (width + aligned))


def _scaled_dot_product(g: Graph, query: Value, key: Value, value: Value, shared: _Shared) -> Value:
    """Attended values float32 [B, frames, heads * aligned].

    If there are too many scores to hold, a loop goes through the queries in blocks.

    Args:
        g: Graph to add to.
        query: float32 [B, frames, heads * (D + aligned)].
        key: float32 [B, frames, heads, D + aligned].
        value: float32 [B, frames, heads * aligned].
        shared: What all layers share.
    """
    heads, aligned = shared.heads, shared.aligned
    keys = key.transpose(0, 2, 3, 1)
    values = value.reshape(0, 0, heads, aligned).transpose(0, 2, 1, 3)

    def attended(inner: Graph, queries: Value) -> Value:
        scores = queries.reshape(0, 0, heads, -1).transpose(0, 2, 1, 3) @ inner.read(keys)
        weights = inner.Softmax(inner.Where(inner.read(shared.mask), -10000.0, scores), axis=3)
        return (weights @ inner.read(values)).transpose(0, 2, 1, 3).reshape(0, 0, heads * aligned)

    def block_in(inner: Graph) -> Value:
        # From shapes: other values from outside an ONNX loop are on the GPU, and the host would wait for them.
        items, frames = inner.read(query).size(0), inner.read(query).size(1)
        return _block(items, frames, heads=heads, scores_at_once=shared.scores_at_once)

    size = heads * aligned
    dims: Dims = ["items", "frames", size]
    at_once = Graph(f"{g.name}.at_once")
    at_once.output("attended", attended(at_once, at_once.read(query)), TensorProto.FLOAT, dims)

    body = Graph(f"{g.name}.block")
    number = body.input("block_number", TensorProto.INT64, [])
    body.input("go_on_in", TensorProto.BOOL, [])
    done = body.input("attended_in", TensorProto.FLOAT, dims)
    block = block_in(body)
    start = (number * block.squeeze())[None]
    part = attended(body, body.read(query)[:, start : start + block])
    body.output("go_on", np.array(True), TensorProto.BOOL, [])
    body.output("attended_out", body.Concat(done, part, axis=1), TensorProto.FLOAT, dims)

    in_blocks = Graph(f"{g.name}.in_blocks")
    block, frames = block_in(in_blocks), in_blocks.read(query).size(1)
    count = (frames + block - ints(1)) // block
    nothing = in_blocks.read(value)[:, :0]
    result = in_blocks.Loop(count.squeeze(), np.array(True), nothing, body=body.graph())
    in_blocks.output("attended", result, TensorProto.FLOAT, dims)
    return g.If(g.read(shared.is_long), then_branch=in_blocks.graph(), else_branch=at_once.graph())


def _padded(weight: Value, *sides: int) -> Value:
    """Zeros after each axis, as many as `sides` says."""
    return weight.pad(*((0, zeros) for zeros in sides)) if any(sides) else weight
