"""Inputs for stages, and sessions to run them, without NeMo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from nemo_triton.contract import Tensor

Array = npt.NDArray[Any]
NUMPY_TYPES = {"INT16": np.int16, "INT32": np.int32, "FP32": np.float32}


def open_graph(graph: onnx.ModelProto, threads: int = 0) -> ort.InferenceSession:
    """Open a graph on the CPU; 0 threads: onnxruntime's default."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def ragged_feeds(tensor: Tensor, items: Sequence[Array], lengths: Sequence[int] | None = None) -> dict[str, Array]:
    """A ragged input with its shapes and lengths.

    Args:
        tensor: Tensor of the input.
        items: [steps] or [steps, width] each, at least one step.
        lengths: Valid steps of each item; None for all.
    """
    dtype = NUMPY_TYPES[tensor.dtype]
    counts = [len(item) for item in items] if lengths is None else lengths
    return {
        tensor.name: np.concatenate([item.ravel() for item in items]).astype(dtype),
        tensor.shape.name: np.array([item.shape for item in items], np.int32),
        tensor.length.name: np.array(counts, np.int32)[:, None],
    }


def names(tensors: Sequence[Tensor]) -> list[str]:
    """Names of tensors, for onnxruntime."""
    return [tensor.name for tensor in tensors]


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX type of each value and input of a graph."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
