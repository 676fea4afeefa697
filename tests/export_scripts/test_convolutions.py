"""Matrix products that replace Conv nodes, compared with onnxruntime's Conv."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from feeds import open_graph
from onnx import TensorProto, helper, numpy_helper

from export_scripts.operators.convolutions import BLOCK, LONG_BLOCK, without_convolutions
from export_scripts.operators.walk import all_graphs

pytestmark = pytest.mark.fast

Numbers = npt.NDArray[np.float32]
OPSETS = (18, 20)


def conv_model(
    weight: Numbers, bias: Numbers | None, opset: int = 20, width: int | None = None, **attributes: Any
) -> onnx.ModelProto:
    """A Conv between other nodes, as in an encoder."""
    rank = weight.ndim - 2
    inputs = ["bounded", "weight", *(["bias"] if bias is not None else [])]
    nodes = [
        helper.make_node("Identity", ["x"], ["bounded"], name="first"),
        helper.make_node("Conv", inputs, ["convolved"], name="layer", **attributes),
        helper.make_node("Identity", ["convolved"], ["y"], name="last"),
    ]
    constants = [numpy_helper.from_array(weight, "weight")]
    if bias is not None:
        constants.append(numpy_helper.from_array(bias, "bias"))
    channels = weight.shape[1] * attributes.get("group", 1)
    space = [f"space_{axis}" for axis in range(rank)]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["items", channels, *space[:-1], width or "width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["items", len(weight), *[None] * rank])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    return open_graph(model, threads=1)


def operators(graph: onnx.GraphProto) -> Iterator[str]:
    return (node.op_type for inner in all_graphs(graph) for node in inner.node)


def assert_same(weight: Numbers, bias: Numbers | None, spaces: Sequence[tuple[int, ...]], **attributes: Any) -> None:
    """Compare the replacement with Conv, for inputs of each of these sizes."""
    rng = np.random.default_rng(len(spaces))
    channels = weight.shape[1] * attributes.get("group", 1)
    for opset in OPSETS:
        model = conv_model(weight, bias, opset, **attributes)
        replaced = without_convolutions(model)
        assert "Conv" not in set(operators(replaced.graph)) and "Conv" in set(operators(model.graph))
        onnx.checker.check_model(replaced, full_check=True)
        conv, products = session(model), session(replaced)
        for space in spaces:
            x = rng.normal(0, 1, (3, channels, *space)).astype(np.float32)
            (expected,), (result,) = conv.run(None, {"x": x}), products.run(None, {"x": x})
            assert result.shape == expected.shape, space
            np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def drawn(*shape: int) -> Numbers:
    return np.random.default_rng(sum(shape)).normal(0, 1, shape).astype(np.float32)


def lengths(shortest: int, block: int = BLOCK) -> list[tuple[int, ...]]:
    """Input lengths from the Conv's shortest to several blocks, with those at the edges of blocks."""
    edges = (1, 2, shortest - 1, block - 1, block, block + 1, 2 * block, 2 * block + 1, 5 * block + 7)
    return [(max(shortest, edge),) for edge in edges]


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise(stride: int, with_bias: bool) -> None:
    bias = drawn(7) if with_bias else None
    assert_same(drawn(7, 5, 1), bias, lengths(1), strides=[stride])


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [
        (2, 1, 1),
        (5, 1, 1),
        (9, 1, 1),
        (9, 2, 1),
        (31, 1, 1),
        (32, 1, 1),
        (39, 2, 1),
        (11, 3, 2),
        (87, 1, 2),
        (75, 2, 1),
    ],
)
@pytest.mark.parametrize("padding", ["same", "none", "left", "more"])
def test_depthwise(kernel: int, stride: int, dilation: int, padding: str, with_bias: bool) -> None:
    span = (kernel - 1) * dilation + 1
    pads = {
        "same": [span // 2, span // 2],
        "none": [0, 0],
        "left": [span - 1, 0],
        "more": [3, span + 40],
    }[padding]
    assert_same(
        drawn(6, 1, kernel),
        drawn(6) if with_bias else None,
        lengths(max(1, span - sum(pads)), LONG_BLOCK if span > 96 else BLOCK),
        group=6,
        strides=[stride],
        dilations=[dilation],
        pads=pads,
    )


def test_depthwise_of_one_tap() -> None:
    assert_same(drawn(6, 1, 1), drawn(6), lengths(1), group=6)


@pytest.mark.parametrize(
    ("outputs", "inputs", "kernel", "stride", "dilation"),
    [(8, 8, 3, 1, 1), (8, 6, 11, 2, 1), (4, 9, 13, 1, 1), (6, 6, 29, 1, 2), (2, 12, 5, 1, 1)],
)
def test_full(outputs: int, inputs: int, kernel: int, stride: int, dilation: int) -> None:
    half = (kernel - 1) * dilation // 2
    for bias in (None, drawn(outputs)):
        weight = drawn(outputs, inputs, kernel)
        assert_same(weight, bias, lengths(1), strides=[stride], dilations=[dilation], pads=[half, half])


@pytest.mark.parametrize(
    ("outputs", "inputs", "group", "kernel", "stride", "pad"),
    [
        (8, 1, 1, 3, 2, 1),
        (8, 8, 1, 3, 2, 1),
        (4, 8, 1, 3, 1, 0),
        (8, 1, 8, 3, 2, 1),
        (5, 8, 1, 1, 1, 0),
        (8, 1, 8, 1, 1, 0),
    ],
)
def test_two_axes(outputs: int, inputs: int, group: int, kernel: int, stride: int, pad: int) -> None:
    spaces = [(3, 3), (4, 5), (1 + 2 * (not pad), 8), (17, 10), (80, 20)]
    for bias in (None, drawn(outputs)):
        weight = drawn(outputs, inputs, kernel, kernel)
        assert_same(weight, bias, spaces, group=group, strides=[stride] * 2, pads=[pad] * 4)


def test_a_conv_in_the_body_of_a_branch() -> None:
    model = conv_model(drawn(6, 6, 3), drawn(6), pads=[1, 1])
    conv = model.graph.node[1]
    body = helper.make_graph([conv], "body", [], [helper.make_tensor_value_info("convolved", TensorProto.FLOAT, None)])
    branch = helper.make_node("If", ["yes"], ["y"], name="branch", then_branch=body, else_branch=body)
    del model.graph.node[1:]
    model.graph.node.append(branch)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    replaced = without_convolutions(model)
    assert "Conv" not in set(operators(replaced.graph))
    x = drawn(2, 6, 50)
    (expected,), (result,) = session(model).run(None, {"x": x}), session(replaced).run(None, {"x": x})
    np.testing.assert_allclose(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("weight", "attributes", "complaint"),
    [
        (drawn(6, 6, 3), {"auto_pad": "SAME_UPPER"}, "layer: a Conv with auto_pad SAME_UPPER can't be replaced"),
        (drawn(6, 3, 3), {"group": 2}, "layer: a Conv of 2 groups for 6 channels can't be replaced"),
        (drawn(6, 1, 3), {"group": 3}, "layer: a Conv of 3 groups for 6 channels can't be replaced"),
        (drawn(2, 2, 3, 3, 3), {}, "layer: only 1-D and 2-D Convs can be replaced"),
    ],
)
def test_a_conv_that_cannot_be_replaced(weight: Numbers, attributes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        without_convolutions(conv_model(weight, None, **attributes))


def test_a_computed_weight_cannot_be_replaced() -> None:
    model = conv_model(drawn(6, 6, 3), None)
    model.graph.node[1].input[1] = "x"
    with pytest.raises(ValueError, match="layer: a Conv whose weight is computed can't be replaced"):
        without_convolutions(model)


@pytest.mark.parametrize("bands", [3, 10, 11, 80])
@pytest.mark.parametrize(("kernel", "strides", "pads"), [([3, 3], [2, 2], [1] * 4), ([5, 3], [1, 2], [2, 0, 4, 1])])
def test_depthwise_over_bands_of_known_number(
    bands: int, kernel: list[int], strides: list[int], pads: list[int]
) -> None:
    attributes: dict[str, Any] = {"group": 8, "strides": strides, "pads": pads}
    weight = drawn(8, 1, *kernel)
    model = conv_model(weight, drawn(8), width=bands, **attributes)
    replaced = without_convolutions(model)
    assert "MatMul" in set(operators(replaced.graph))
    conv, products = session(model), session(replaced)
    for steps in (1, 2, 3, 40, 41):
        x = drawn(2, 8, steps, bands)
        (expected,), (result,) = conv.run(None, {"x": x}), products.run(None, {"x": x})
        np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("known", [True, False])
def test_padding_before_a_conv_becomes_part_of_the_conv(known: bool) -> None:
    model = conv_model(drawn(6, 1, 5), None, group=6, pads=[1, 0])
    pads = numpy_helper.from_array(np.array([3, 0, 0, 2, 0, 0]).reshape(3, 2).T.ravel(), "sides")
    model.graph.node[0].CopyFrom(helper.make_node("Pad", ["x", "pads"], ["bounded"], name="padding"))
    if known:
        pads = numpy_helper.from_array(np.array([0, 0, 3, 0, 0, 2]), "sides")
    model.graph.node.insert(0, helper.make_node("Identity", ["sides"], ["pads"], name="sides"))
    if known:
        model.graph.initializer.append(pads)
    else:
        model.graph.input.append(helper.make_tensor_value_info("sides", TensorProto.INT64, [6]))
    replaced = without_convolutions(model)
    assert Counter(operators(replaced.graph))["Pad"] == 2 - known
    feeds = {"x": drawn(2, 6, 50), **({} if known else {"sides": np.array([0, 0, 3, 0, 0, 2])})}
    (expected,), (result,) = session(model).run(None, feeds), session(replaced).run(None, feeds)
    np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
