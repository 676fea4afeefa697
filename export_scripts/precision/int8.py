"""A float32 graph with its convolutions and products of matrices in 8-bit integers, for CPUs.

Static: each activation has one scale, learnt from recordings. A dynamic scale would be taken over the whole
batch, and texts would depend on it. Weights have a scale for each channel and 7 bits, since CPUs without VNNI
add two products in 16 bits, which 8 by 8 bits would overflow. Zero is always a number of the scale, so what masks
set to zero stays zero.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from export_scripts.precision.fp16 import last_layer

CONVOLUTIONAL = ("Conv", "Mul", "Relu")
"""Convolutions and what is between them, so that activations stay in 8 bits from one to the next."""
CONFORMER = ("Conv", "MatMul")

Batch = dict[str, np.ndarray]
"""features float32 [B, frames, mels], length int64 [B]."""


class _Reader:
    """A CalibrationDataReader of onnxruntime, which is any class with this method."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self.batches = batches

    def get_next(self) -> Batch | None:
        return next(self.batches, None)


def to_int8(model: onnx.ModelProto, batches: Iterator[Batch]) -> onnx.ModelProto:
    """A traced encoder, its activations' ranges taken from `batches`.

    The last layer stays in float32, and so do the few products of squeeze-and-excite, which decide on whole channels.
    """
    model = sums_in_double(model)
    operators = {node.op_type for node in model.graph.node}
    attends = "LayerNormalization" in operators
    excluded = {last_layer(model.graph)}
    if not attends:
        excluded |= {node.name for node in model.graph.node if node.op_type == "MatMul"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            file,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(CONFORMER if attends else CONVOLUTIONAL),
            nodes_to_exclude=sorted(excluded),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # onnxruntime 1.32 aborts where the result of Conformer's linear_pos is quantized.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        return onnx.load(file)


def sums_in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its sums taken in float64 and rounded to float32.

    How far an item is padded decides in which order its zeros and numbers are added, so that a float32 sum depends on
    the batch by its last bit. Where the next step rounds to 8 bits, that bit may decide between two numbers.
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
