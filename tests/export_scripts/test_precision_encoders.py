"""Encoders in fp16 and int8: which results stay exact, and which layers stay in float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from feeds import open_graph, types_of
from fixture_types import OpenCheckpoint
from onnx import TensorProto, numpy_helper

from export_scripts.operators.tuning import CPU
from export_scripts.precision.choice import PrecisionName
from export_scripts.precision.fp16 import to_fp16
from export_scripts.precision.int8 import Batch, to_int8
from export_scripts.stages.encoder import LengthKeepingEncoder, trace
from export_scripts.stages.heads import CtcHead

Numbers = npt.NDArray[Any]


@pytest.fixture(scope="module", params=["citrinet", "conformer"])
def traced(request: pytest.FixtureRequest, checkpoint: OpenCheckpoint) -> tuple[onnx.ModelProto, int]:
    """A traced tiny encoder, and its number of mel bands."""
    model: Any = checkpoint(request.param).model
    mels = model.cfg.preprocessor.features
    return trace(LengthKeepingEncoder(model.encoder, [CtcHead(model.decoder)]), mels, CPU)[0], mels


def batches(mels: int, *lengths: int) -> Iterator[Batch]:
    rng = np.random.default_rng(4)
    for _ in range(4):
        features = rng.normal(0, 1, (len(lengths), max(lengths), mels)).astype(np.float32)
        for item, length in zip(features, lengths, strict=True):
            item[length:] = 0
        yield {"features": features, "length": np.array(lengths)}


def run(model: onnx.ModelProto, batch: Batch) -> tuple[Numbers, Numbers]:
    scores, length = open_graph(model).run(["scores", "scores_length"], batch)
    return scores, length


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_padding_changes_nothing(traced: tuple[onnx.ModelProto, int], precision: PrecisionName) -> None:
    """Garbage in the padding leaves every score unchanged, since each layer masks it."""
    model, mels = traced
    converted = to_fp16(model) if precision == "fp16" else to_int8(model, batches(mels, 300, 211))
    (batch, *_) = batches(mels, 300, 211, 57)
    before, length = run(converted, batch)
    garbage = {**batch, "features": batch["features"].copy()}
    garbage["features"][1, 211:] = 1000
    garbage["features"][2, 57:] = -1000
    after, _ = run(converted, garbage)
    for row, other_row, frames in zip(before, after, length, strict=True):
        np.testing.assert_array_equal(row[:frames], other_row[:frames])


def test_int8_scores_are_the_same_unbatched_and_padded(traced: tuple[onnx.ModelProto, int]) -> None:
    """Bit by bit: one different rounding to 8 bits would change the scores by much more than float rounding."""
    model, mels = traced
    converted = to_int8(model, batches(mels, 300, 211))
    (batch, *_) = batches(mels, 300, 211, 57)
    batched, length = run(converted, batch)
    for item, frames in enumerate(batch["length"]):
        unbatched, _ = run(
            converted, {"features": batch["features"][item : item + 1, :frames], "length": np.array([frames])}
        )
        np.testing.assert_array_equal(batched[item, : length[item]], unbatched[0, : length[item]])


def test_int8_has_fixed_scales_and_weights_of_seven_bits(traced: tuple[onnx.ModelProto, int]) -> None:
    model, mels = traced
    converted = to_int8(model, batches(mels, 300, 211))
    operators = {node.op_type for node in converted.graph.node}
    assert "DynamicQuantizeLinear" not in operators and {"QuantizeLinear", "DequantizeLinear"} <= operators
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in converted.graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert len(weights) > 4
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) == 64
    assert {output.type.tensor_type.elem_type for output in converted.graph.output} == {
        TensorProto.FLOAT,
        TensorProto.INT64,
    }


def test_fp16_weights_and_fp32_sums(traced: tuple[onnx.ModelProto, int]) -> None:
    model, mels = traced
    (batch, *_) = batches(mels, 300, 57)
    converted = to_fp16(model)
    (fp32, length), (fp16, _) = run(model, batch), run(converted, batch)
    for item, frames in enumerate(length):
        np.testing.assert_allclose(fp16[item, :frames], fp32[item, :frames], atol=0.2, rtol=0)
    kinds = types_of(converted)
    for node in converted.graph.node:
        if node.op_type in ("LayerNormalization", "LogSoftmax", "ReduceSum", "ReduceMean", "Softmax"):
            assert kinds.get(node.input[0]) != TensorProto.FLOAT16, node.name
    heavy = [node for node in converted.graph.node if node.op_type in ("Conv", "MatMul")]
    assert all(kinds[node.input[0]] == TensorProto.FLOAT16 for node in heavy[:-1])
    assert kinds[heavy[-1].input[0]] == TensorProto.FLOAT, "the last layer stays in float32"
