"""Attention as one product of longer queries and keys, compared with NeMo's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from feeds import open_graph
from fixture_types import OpenCheckpoint
from onnx import TensorProto

from export_scripts.operators import rotated_attention
from export_scripts.operators.tuning import CPU, GPU
from export_scripts.operators.walk import all_graphs
from export_scripts.precision.fp16 import to_fp16
from export_scripts.stages.encoder import CtcEncoder, trace

LENGTHS = (900, 401, 7)


@pytest.fixture(scope="module")
def encoder(checkpoint: OpenCheckpoint) -> tuple[Any, int]:
    """A tiny Conformer with biases that are not zero, and its number of mel bands."""
    model: Any = checkpoint("conformer").model
    torch.manual_seed(3)
    with torch.no_grad():
        for layer in model.encoder.layers:
            for parameter in (layer.self_attn.pos_bias_u, layer.self_attn.pos_bias_v, layer.self_attn.linear_k.bias):
                parameter.normal_()
    return CtcEncoder(model.encoder, model.decoder), model.cfg.preprocessor.features


def scores(traced: onnx.ModelProto, mels: int) -> list[np.ndarray]:
    features = np.random.default_rng(6).normal(0, 1, (len(LENGTHS), max(LENGTHS), mels)).astype(np.float32)
    values, lengths = open_graph(traced).run(None, {"features": features, "length": np.array(LENGTHS)})
    return [item[:length] for item, length in zip(values, lengths, strict=True)]


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for graph in all_graphs(model.graph) for node in graph.node)


@pytest.mark.parametrize("scores_at_once", [GPU.scores_at_once, 60_000], ids=["at_once", "in_blocks"])
@pytest.mark.parametrize("widest", [rotated_attention.WIDEST, 36], ids=["narrow", "wide"])
def test_scores_equal_those_of_nemos_attention(
    encoder: tuple[Any, int],
    widest: int,
    scores_at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, mels = encoder
    monkeypatch.setattr(rotated_attention, "WIDEST", widest)
    expected = scores(trace(module, mels, CPU)[0], mels)
    traced, _ = trace(module, mels, replace(GPU, scores_at_once=scores_at_once))
    assert operators(traced)["RotaryEmbedding"] == len(module.encoder.layers)
    for ours, nemos in zip(scores(traced, mels), expected, strict=True):
        np.testing.assert_allclose(ours, nemos, atol=2e-4, rtol=0)
    for half, nemos in zip(scores(to_fp16(traced), mels), expected, strict=True):
        np.testing.assert_allclose(half, nemos, atol=0.1, rtol=0)


def test_the_module_is_as_before_after_a_trace(encoder: tuple[Any, int]) -> None:
    module, mels = encoder
    before = {name: dict(child.__dict__) for name, child in module.named_modules()}
    trace(module, mels, GPU)
    after = {name: dict(child.__dict__) for name, child in module.named_modules()}
    assert before == after


def test_queries_and_keys_are_float16_in_fp16(encoder: tuple[Any, int]) -> None:
    """A cast of them would cost as much as a step of the attention."""
    module, mels = encoder
    half = to_fp16(trace(module, mels, GPU)[0])
    branches = [node for node in half.graph.node if node.op_type == "If"]
    assert len(branches) == len(module.encoder.layers)
    for branch in branches:
        for attribute in branch.attribute:
            (output,) = attribute.g.output
            assert output.type.tensor_type.elem_type == TensorProto.FLOAT16
            computed = {name for node in attribute.g.node for name in node.output}
            read = {name for node in attribute.g.node if node.op_type == "Cast" for name in node.input}
            assert read <= computed
