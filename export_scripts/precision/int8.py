"""Quantize convolutions and matrix products of a float32 graph to 8-bit integers, for CPUs.

Static: each activation has one scale, set by calibration recordings. A dynamic scale would cover the whole batch, and
texts would depend on the other requests in it. Weights have one scale per channel and 7 bits: CPUs without VNNI add two
products in 16 bits, which 8 by 8 bits would overflow. Zero is always representable, so masked values stay zero.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from export_scripts.operators.weights import has_files, write_graph
from export_scripts.precision.fp16 import last_layers

CONVOLUTIONAL = ("Conv", "Mul", "Relu")
"""Convolutions and the operators between them, so that activations stay in 8 bits from one convolution to the next."""
CONFORMER = ("Conv", "MatMul")

Batch = dict[str, np.ndarray]
"""features float32 [B, frames, mels], length int64 [B]."""


class _Reader:
    """A CalibrationDataReader for onnxruntime, which accepts any class with this method."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self.batches = batches

    def get_next(self) -> Batch | None:
        return next(self.batches, None)


def to_int8(model: onnx.ModelProto, batches: Iterator[Batch]) -> onnx.ModelProto:
    """Quantize a traced encoder.

    The last layers stay in float32. So do the few products of squeeze-and-excite, which scale whole channels.

    Args:
        model: Traced encoder.
        batches: Features that set the range of each activation.
    """
    model = sums_in_double(model)
    operators = {node.op_type for node in model.graph.node}
    attends = "LayerNormalization" in operators
    excluded = last_layers(model.graph)
    if not attends:
        excluded |= {node.name for node in model.graph.node if node.op_type == "MatMul"}
    with tempfile.TemporaryDirectory() as folder:
        source: onnx.ModelProto | Path = model
        if in_files := has_files(model):
            # onnxruntime looks for a model's weights in its folder.
            source = Path(folder) / "fp32.onnx"
            write_graph(model, source)
        file = Path(folder) / "int8.onnx"
        quantize_static(
            source,
            file,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(CONFORMER if attends else CONVOLUTIONAL),
            nodes_to_exclude=sorted(excluded),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            use_external_data_format=in_files,
            # onnxruntime 1.32 aborts if the result of Conformer's linear_pos is quantized.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        return onnx.load(file)


def sums_in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute the model's sums in float64 and round them to float32.

    Padding changes the order in which a sum is computed, so a float32 sum depends on the batch in its last bit. Where
    the next operator rounds to 8 bits, that bit may decide between two numbers.
    """
    changed = onnx.shape_inference.infer_shapes(model)
    floats = {value.name for value in changed.graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    nodes = []
    for node in changed.graph.node:
        if node.op_type != "ReduceSum" or node.input[0] not in floats:
            nodes.append(node)
            continue
        wide, total = f"{node.output[0]}.wide", f"{node.output[0]}.wide_sum"
        nodes.append(helper.make_node("Cast", [node.input[0]], [wide], name=wide, to=TensorProto.DOUBLE))
        narrow = helper.make_node("Cast", [total], [node.output[0]], name=total, to=TensorProto.FLOAT)
        node.input[0], node.output[0] = wide, total
        nodes += [node, narrow]
    del changed.graph.node[:], changed.graph.value_info[:]
    changed.graph.node.extend(nodes)
    return changed
