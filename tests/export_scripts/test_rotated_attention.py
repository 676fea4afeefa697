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
from onnx import TensorProto, helper

from export_scripts.chain import tuning_of
from export_scripts.operators import rotated_attention
from export_scripts.operators.tuning import CPU, GPU
from export_scripts.operators.walk import all_graphs
from export_scripts.precision.fp16 import to_fp16
from export_scripts.stages.encoder import LengthKeepingEncoder, check_encoder, trace
from export_scripts.stages.heads import CtcHead

LENGTHS = (900, 401, 7)
MELS = 80
WIDTH = 36
"""Heads of 9 numbers, which are padded to 16."""


def make_encoder(**options: Any) -> Any:
    """A Conformer of two layers with random weights, none of them zero."""
    from nemo.collections.asr.modules import ConformerEncoder, ConvASRDecoder

    torch.manual_seed(3)
    encoder = ConformerEncoder(feat_in=MELS, n_layers=2, d_model=WIDTH, n_heads=4, conv_kernel_size=9, **options)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "pos_bias" in name or name.endswith(".bias"):
                parameter.normal_(0, 0.3)
    head = ConvASRDecoder(feat_in=WIDTH, num_classes=20, vocabulary=[str(label) for label in range(20)])
    return LengthKeepingEncoder(encoder, [CtcHead(head)]).eval()


@pytest.fixture(scope="module")
def encoder() -> Any:
    return make_encoder()


def run(traced: onnx.ModelProto, *outputs: str) -> list[np.ndarray]:
    features = np.random.default_rng(6).normal(0, 1, (len(LENGTHS), max(LENGTHS), MELS)).astype(np.float32)
    results: list[np.ndarray] = open_graph(traced).run(outputs, {"features": features, "length": np.array(LENGTHS)})
    return results


def scores(traced: onnx.ModelProto) -> list[np.ndarray]:
    values, lengths = run(traced, "scores", "scores_length")
    return [item[:length] for item, length in zip(values, lengths, strict=True)]


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for graph in all_graphs(model.graph) for node in graph.node)


def assert_close(ours: onnx.ModelProto, nemos: onnx.ModelProto, tolerance: float) -> None:
    for item, expected in zip(scores(ours), scores(nemos), strict=True):
        np.testing.assert_allclose(item, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("in_blocks", [False, True], ids=["at_once", "in_blocks"])
@pytest.mark.parametrize("widest", [rotated_attention.WIDEST, WIDTH], ids=["narrow", "wide"])
def test_scores_equal_those_of_nemos_attention(
    encoder: Any, widest: int, in_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotated_attention, "WIDEST", widest)
    nemos, _ = trace(encoder, MELS, CPU)
    traced, _ = trace(encoder, MELS, replace(GPU, scores_at_once=60_000 if in_blocks else GPU.scores_at_once))
    assert operators(traced)["RotaryEmbedding"] == 2
    # What depends on the mask only is computed once for all layers.
    assert operators(traced)["Sin"] == 1
    assert_close(traced, nemos, 2e-4)
    assert_close(to_fp16(traced), nemos, 0.1)

    (is_long,) = {node.input[0] for node in traced.graph.node if node.op_type == "If"}
    traced.graph.output.append(helper.make_tensor_value_info(is_long, TensorProto.BOOL, []))
    assert run(traced, is_long) == [in_blocks]


def test_layers_after_a_reduction_have_their_own_positions() -> None:
    encoder = make_encoder(reduction="pooling", reduction_position=0, reduction_factor=2)
    traced, _ = trace(encoder, MELS, GPU)
    assert operators(traced)["Sin"] == 2
    assert_close(traced, trace(encoder, MELS, CPU)[0], 2e-4)


def test_an_attention_that_is_too_wide_is_refused(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotated_attention, "WIDEST", WIDTH - 1)
    with pytest.raises(ValueError, match="d_model is 36; with --target gpu it can be at most 35: export with"):
        trace(encoder, MELS, GPU)


def test_int8_has_nemos_attention() -> None:
    assert tuning_of("gpu", "int8") == replace(GPU, rotated_attention=False)
    assert tuning_of("gpu", "fp16") == tuning_of("gpu", "fp32") == GPU and tuning_of("cpu", "int8") == CPU


@pytest.mark.parametrize("norm", ["instance_norm", "group_norm4"])
def test_a_norm_over_padding_is_refused(norm: str) -> None:
    with pytest.raises(ValueError, match=f"encoder.conv_norm_type is {norm}, which has no length mask"):
        check_encoder(make_encoder(conv_norm_type=norm).encoder)


def test_the_module_is_as_before_after_a_trace(encoder: Any) -> None:
    before = {name: dict(child.__dict__) for name, child in encoder.named_modules()}
    trace(encoder, MELS, GPU)
    assert before == {name: dict(child.__dict__) for name, child in encoder.named_modules()}


def test_queries_and_keys_are_float16_in_fp16(encoder: Any) -> None:
    """A cast of them would cost as much as a step of the attention."""
    half = to_fp16(trace(encoder, MELS, GPU)[0])
    branches = [node for node in half.graph.node if node.op_type == "If"]
    assert len(branches) == 2
    for branch in branches:
        for attribute in branch.attribute:
            (output,) = attribute.g.output
            assert output.type.tensor_type.elem_type == TensorProto.FLOAT16
            computed = {name for node in attribute.g.node for name in node.output}
            read = {name for node in attribute.g.node if node.op_type == "Cast" for name in node.input}
            assert read <= computed
