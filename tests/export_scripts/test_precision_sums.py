"""Sums that exceed float16, and sums that must not depend on padding."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from feeds import open_graph, types_of
from onnx import TensorProto, helper, numpy_helper

from export_scripts.precision.fp16 import to_fp16
from export_scripts.precision.int8 import sums_in_double

pytestmark = pytest.mark.fast


def test_fp16_computes_sums_in_float32() -> None:
    """The sum of 1000 times 200 exceeds 65504, the largest float16."""
    nodes = [
        helper.make_node("MatMul", ["features", "weight"], ["product"], name="product"),
        helper.make_node("Relu", ["product"], ["gated"], name="gated"),
        helper.make_node("ReduceSum", ["gated", "axes"], ["total"], name="total", keepdims=1),
        helper.make_node("Log", ["total"], ["log"], name="log"),
        helper.make_node("MatMul", ["log", "last"], ["scores"], name="scores"),
    ]
    constants = [
        numpy_helper.from_array(np.full((1, 1000), 200, np.float32), "weight"),
        numpy_helper.from_array(np.array([1]), "axes"),
        numpy_helper.from_array(np.ones((1, 1), np.float32), "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    converted = to_fp16(model)
    kinds = types_of(converted)
    assert kinds["product"] == kinds["gated"] == TensorProto.FLOAT16 and kinds["total"] == TensorProto.FLOAT
    (scores,) = open_graph(converted).run(None, {"features": np.ones((1, 1), np.float32)})
    assert scores.item() == pytest.approx(np.log(200_000), rel=1e-6)


def test_a_sum_does_not_depend_on_padding() -> None:
    node = helper.make_node("ReduceSum", ["values", "axes"], ["total"], name="total", keepdims=0)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["features"], ["values"], name="values"), node],
        "sum",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["items", "steps"])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, ["items"])],
        [numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    values = np.random.default_rng(8).uniform(0, 1, (50, 997)).astype(np.float32)

    def totals(model: onnx.ModelProto) -> list[bytes]:
        session = open_graph(model)
        lengths = [997, 1024, 1031, 2500]
        return [session.run(None, {"features": np.pad(values, ((0, 0), (0, to - 997)))})[0].tobytes() for to in lengths]

    assert len(set(totals(model))) > 1, "float32 sums depend on padding"
    assert len(set(totals(sums_in_double(model)))) == 1
