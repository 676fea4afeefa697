"""Operators on values of a graph, compared with NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from feeds import open_graph
from onnx import TensorProto

from export_scripts.operators.builder import Graph, ints
from nemo_triton.contract import Tensor

pytestmark = pytest.mark.fast

A = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 7
B = np.linspace(-2, 3, 24, dtype=np.float32).reshape(2, 3, 4)
N = np.array([5, 3, 9], np.int64)

Calculation = Callable[[Any, Any, Any], Any]


def calculated(calculation: Calculation) -> npt.NDArray[Any]:
    """The result of a graph with the inputs A, B and N."""
    g = Graph("calculation")
    arrays: dict[str, npt.NDArray[Any]] = {"a": A, "b": B, "n": N}
    types = {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT, "n": TensorProto.INT64}
    values = [
        g.input(name, types[name], [f"{name}_{axis}" for axis in range(array.ndim)]) for name, array in arrays.items()
    ]
    result = calculation(*values)
    # The shape may be any: onnxruntime takes it from the node.
    g.output("result", result.astype(np.float32), TensorProto.FLOAT, [])
    model = g.model()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    (array,) = open_graph(model).run(None, arrays)
    return np.asarray(array)


@pytest.mark.parametrize(
    "calculation",
    [
        lambda a, b, n: a + b,
        lambda a, b, n: 0.5 + a,
        lambda a, b, n: a - b,
        lambda a, b, n: np.float32(3) - a,
        lambda a, b, n: B - a,
        lambda a, b, n: 0.97 * a,
        lambda a, b, n: a / b,
        lambda a, b, n: n // 2,
        lambda a, b, n: a @ np.ones((4, 2), np.float32),
        lambda a, b, n: np.ones((5, 3), np.float32) @ a,
        lambda a, b, n: abs(a) ** 0.5,
        lambda a, b, n: abs(a),
        lambda a, b, n: (a < b) & ~(a <= -3.0),
        lambda a, b, n: (a > b) & (a >= 1.0),
        lambda a, b, n: n == 3,
        lambda a, b, n: n != 3,
        lambda a, b, n: a[:, 1:] - 0.97 * a[:, :-1],
        lambda a, b, n: a[:1, :, 1:3],
        lambda a, b, n: a[:, :, ::2],
        lambda a, b, n: a[:, :, 1::2],
        lambda a, b, n: a[:, None],
        lambda a, b, n: n[:, None, None] * a[:1].astype(np.int64),
        lambda a, b, n: a[:, 1],
        lambda a, b, n: a[1],
        lambda a, b, n: a.astype(np.int64),
        lambda a, b, n: a.reshape(6, 4),
        lambda a, b, n: a.transpose(2, 0, 1),
        lambda a, b, n: a[:1].squeeze(),
        lambda a, b, n: a.sum(),
        lambda a, b, n: a.sum(1),
        lambda a, b, n: a.max(),
        lambda a, b, n: a.max(2),
        lambda a, b, n: a.argmax(axis=1),
        lambda a, b, n: n.cumsum(axis=0),
    ],
)
def test_calculations_that_are_written_as_in_numpy(calculation: Calculation) -> None:
    expected = np.asarray(calculation(A, B, N))
    result = calculated(calculation)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize(
    ("calculation", "expected"),
    [
        (lambda a, b, n: n[n.argmax(axis=0, keepdims=True)], N[[2]]),
        (lambda a, b, n: n[: n[1:2] - 1], N[:2]),
        (lambda a, b, n: n[n[1:2] - 1 :], N[2:]),
        (lambda a, b, n: n.sum_before(axis=0), [0, 5, 8]),
        (lambda a, b, n: a.shape, [2, 3, 4]),
        (lambda a, b, n: a.size(1), [3]),
        (lambda a, b, n: a.sum(0, 2, keepdims=True), A.sum(axis=(0, 2), keepdims=True)),
        (lambda a, b, n: a.max(1, keepdims=True), A.max(axis=1, keepdims=True)),
        (lambda a, b, n: n.pad((1, 2)), np.pad(N, (1, 2))),
        (lambda a, b, n: n.pad((0, 1), value=-1), [5, 3, 9, -1]),
        (lambda a, b, n: a.reshape(0, -1), A.reshape(2, 12)),
        (lambda a, b, n: a[:1].squeeze(0), A[0]),
        (lambda a, b, n: n.graph.arange(n.max()), np.arange(9)),
        (lambda a, b, n: ints(10) - n[:1], [5]),
    ],
)
def test_calculations_that_are_written_differently_in_numpy(calculation: Calculation, expected: Any) -> None:
    result = calculated(calculation)
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_served_tensors_have_a_batch_axis_and_sizes_of_the_model() -> None:
    g = Graph("served")
    scores = Tensor("SCORES", "FP32", ("frames", "labels"))
    g.give(scores.length, g.take(scores.length))
    g.give(scores, g.take(Tensor("X", "FP32", ("frames", "labels")), labels=7), labels=7)
    dims = [
        [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*g.inputs, *g.outputs)
    ]
    assert dims == [["items", 1], ["items", "frames", 7]] * 2
    assert [value.type.tensor_type.elem_type for value in g.outputs] == [TensorProto.INT32, TensorProto.FLOAT]
