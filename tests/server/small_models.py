"""Small graphs with configurations, for tests of the onnxruntime backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2 as triton

Value = tuple[str, int, Sequence[int | str]]

RAGGED_SUMS = """
    backend: "onnxruntime"
    max_batch_size: 8
    input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }
    output { name: "SUM" data_type: TYPE_FP32 dims: [ 1 ] }
    batch_input { kind: BATCH_ITEM_SHAPE target_name: "X_SHAPE" data_type: TYPE_INT32 source_input: "X" }
    dynamic_batching { max_queue_delay_microseconds: 2000000 }
    instance_group { count: 1 kind: KIND_CPU }
"""
SHOUT = """
    backend: "onnxruntime"
    max_batch_size: 8
    input { name: "WORD" data_type: TYPE_STRING dims: [ 1 ] }
    output { name: "LOUD" data_type: TYPE_STRING dims: [ 1 ] }
    instance_group { count: 1 kind: KIND_CPU }
"""
DOUBLE = """
    backend: "onnxruntime"
    max_batch_size: 8
    input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }
    output { name: "TWICE" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }
    instance_group { count: 1 kind: KIND_CPU }
"""
SHIFTED_WIDTH = 1000


def ragged_sums() -> onnx.ModelProto:
    """X float32 [N] (concatenated items), X_SHAPE int32 [items, 1] -> SUM float32 [items, 1], the sum of each item."""
    nodes = [
        helper.make_node("Cast", ["X_SHAPE"], ["lengths"], to=TensorProto.INT64),
        helper.make_node("CumSum", ["lengths", "zero"], ["ends"]),
        helper.make_node("Sub", ["ends", "lengths"], ["starts"]),
        helper.make_node("CumSum", ["X", "zero"], ["running"]),
        helper.make_node("Concat", ["nothing", "running"], ["until"], axis=0),
        helper.make_node("Gather", ["until", "ends"], ["until_end"], axis=0),
        helper.make_node("Gather", ["until", "starts"], ["until_start"], axis=0),
        helper.make_node("Sub", ["until_end", "until_start"], ["SUM"]),
    ]
    constants = {"zero": np.array(0), "nothing": np.zeros(1, np.float32)}
    inputs: list[Value] = [("X", TensorProto.FLOAT, ["n"]), ("X_SHAPE", TensorProto.INT32, ["items", 1])]
    return model(nodes, inputs, [("SUM", TensorProto.FLOAT, ["items", 1])], constants)


def shout() -> onnx.ModelProto:
    """WORD string [B, 1] -> LOUD string [B, 1], with an exclamation mark."""
    nodes = [helper.make_node("StringConcat", ["WORD", "mark"], ["LOUD"])]
    inputs: list[Value] = [("WORD", TensorProto.STRING, ["items", 1])]
    outputs: list[Value] = [("LOUD", TensorProto.STRING, ["items", 1])]
    return model(nodes, inputs, outputs, {"mark": np.array(["!"], dtype=object)})


def double() -> onnx.ModelProto:
    """X float32 [B] -> TWICE float32 [B]."""
    nodes = [helper.make_node("Add", ["X", "X"], ["TWICE"])]
    return model(nodes, [("X", TensorProto.FLOAT, ["items"])], [("TWICE", TensorProto.FLOAT, ["items"])], {})


def too_few_rows() -> onnx.ModelProto:
    """X float32 [B, 1] -> Y float32 [max(B - 2, 1), 1], the first rows of X."""
    nodes = [
        helper.make_node("Shape", ["X"], ["items"], start=0, end=1),
        helper.make_node("Sub", ["items", "two"], ["fewer"]),
        helper.make_node("Max", ["fewer", "one"], ["end"]),
        helper.make_node("Slice", ["X", "zero", "end"], ["Y"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2])}
    outputs: list[Value] = [("Y", TensorProto.FLOAT, ["rows", 1])]
    return model(nodes, [("X", TensorProto.FLOAT, ["items", 1])], outputs, constants)


def too_many_rows() -> onnx.ModelProto:
    """X float32 [B, 1] -> Y float32 [2 * B, 1], the rows of X twice."""
    nodes = [helper.make_node("Concat", ["X", "X"], ["Y"], axis=0)]
    outputs: list[Value] = [("Y", TensorProto.FLOAT, ["rows", 1])]
    return model(nodes, [("X", TensorProto.FLOAT, ["items", 1])], outputs, {})


def look_up() -> onnx.ModelProto:
    """X int64 [B, 1] -> Y int64 [B, 1], X's entry in a table of three; another X fails the run."""
    nodes = [helper.make_node("Gather", ["table", "X"], ["Y"])]
    outputs: list[Value] = [("Y", TensorProto.INT64, ["items", 1])]
    return model(nodes, [("X", TensorProto.INT64, ["items", 1])], outputs, {"table": np.array([10, 11, 12])})


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    constants: Mapping[str, npt.NDArray[Any]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def shifted() -> onnx.ModelProto:
    """X float32 [B, 1000] -> Y float32 [B, 1000], its sum with 0, 1, 2, ..., a weight large enough for a file."""
    nodes = [helper.make_node("Add", ["X", "shift"], ["Y"])]
    dims: Sequence[int | str] = ["items", SHIFTED_WIDTH]
    weights = {"shift": np.arange(SHIFTED_WIDTH, dtype=np.float32)}
    return model(nodes, [("X", TensorProto.FLOAT, dims)], [("Y", TensorProto.FLOAT, dims)], weights)


def write(repository: Path, name: str, graph: onnx.ModelProto, config: str | None) -> None:
    """Add a model to a repository. Without a configuration, Triton has to complete it."""
    (repository / name / "1").mkdir(parents=True)
    onnx.save(graph, repository / name / "1" / "model.onnx")
    if config is not None:
        text_format.Parse(config, triton.ModelConfig())
        (repository / name / "config.pbtxt").write_text(config)
