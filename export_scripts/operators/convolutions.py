"""Convolutions as products of matrices, for GPUs.

cuDNN looks for a plan for each new shape of each Conv node, and onnxruntime keeps none over shapes; batches of speech
have a new shape nearly every time, so that the plans cost more than the work. A MatMul needs no plan.

Which product takes the place of a Conv, with input [B, C, steps] or [B, C, steps, bands]:

- kernel of one tap: weight [C', C] times the input
- group 1: weight [C', C * taps] times the input unfolded, a Slice for each tap
- one channel per group, in 1-D: the input in overlapping blocks times a banded (Toeplitz) matrix per channel
- one channel per group, in 2-D: rows of all bands, as many as the kernel has, times such a matrix over bands
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.operators.value import END
from export_scripts.operators.walk import drop_unread

UNFOLDED = 4
"""Numbers of an unfolded input per number of the result, at most; more taps are several products and their sum. A group
of 2400 s has 120,000 steps of 896 channels in Jasper, 0.4 GB in float32, and 29 taps at once would take 12 GB."""
BLOCK, LONG_BLOCK, LONG_SPAN = 32, 64, 96
"""Steps that one row of a depthwise product makes, and as many for kernels that reach over more than LONG_SPAN steps.
Each block reads its kernel's span again, so short blocks move more data; long ones have larger matrices."""
ALIGNED = 8
"""Rows of a banded matrix are a multiple of this: cuBLAS has faster kernels for aligned float16."""


def without_convolutions(traced: onnx.ModelProto) -> onnx.ModelProto:
    """The model with other nodes in place of each Conv, also in its subgraphs; the model given is unchanged.

    A weight stays one initializer, its first axis the output channels.

    Raises:
        ValueError: for a Conv of a kind that no encoder here has, with the node's name.
    """
    model = onnx.ModelProto()
    model.CopyFrom(traced)
    constants: dict[str, onnx.TensorProto] = {}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    _Scope(model.graph, outer={}, widths=_widths(model), opsets=opsets, shared=constants).replace()
    model.graph.initializer.extend(constants.values())
    return model


@dataclass(frozen=True, kw_only=True)
class _Conv:
    """A Conv node.

    x, result: names of its input [B, C, *space] and its output [B, C', *space']
    weight: float32 [C', C / group, *kernel]
    bias: float32 [C'], or None
    before, after: padding of each axis of the space
    """

    name: str
    x: str
    result: str
    weight_name: str
    weight: np.ndarray
    bias: np.ndarray | None
    group: int
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def kernel(self) -> tuple[int, ...]:
        return self.weight.shape[2:]

    @property
    def spans(self) -> tuple[int, ...]:
        """Steps from a kernel's first tap to its last, both included."""
        return tuple((taps - 1) * gap + 1 for taps, gap in zip(self.kernel, self.dilations, strict=True))

    @property
    def taps(self) -> list[tuple[int, ...]]:
        """Where each tap is in the kernel, in the order of the weight."""
        return list(product(*map(range, self.kernel)))


class _Scope:
    """A graph whose nodes see the constants of the graphs around it."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        *,
        outer: Mapping[str, onnx.TensorProto],
        widths: Mapping[str, int],
        opsets: dict[str, int],
        shared: dict[str, onnx.TensorProto],
    ) -> None:
        """
        outer: constants of the graphs around this one
        widths: size of the last axis of values that have one of a known size
        opsets: of the model
        shared: constants of the new nodes, to which more are added; they belong to the outermost graph
        """
        self.graph = graph
        self.widths = widths
        self.opsets = opsets
        self.makers = {result: node for node in graph.node for result in node.output}
        self.constants = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
        self.shared = shared

    def replace(self) -> None:
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
            elif node.op_type == "Identity" and node.input[0] in self.constants:
                # PyTorch's exporter stores equal weights once.
                self.constants[node.output[0]] = self.constants[node.input[0]]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    _Scope(
                        attribute.g,
                        outer=self.constants,
                        widths=self.widths,
                        opsets=self.opsets,
                        shared=self.shared,
                    ).replace()
            nodes.extend(self._instead_of(node) if node.op_type == "Conv" else [node])
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        drop_unread(self.graph)

    def _instead_of(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        conv = self._read(node)
        g = Graph(conv.name)
        channels = conv.weight.shape[0]
        if conv.group == 1:
            result = self._dense(g, conv)
        elif conv.group != channels or conv.weight.shape[1] != 1:
            raise ValueError(f"{conv.name}: a Conv of {conv.group} groups for {channels} channels can't be replaced")
        elif len(conv.kernel) == 1 and conv.kernel != (1,):
            result = self._banded(g, conv)
        elif len(conv.kernel) == 2 and conv.x in self.widths:
            result = self._banded_rows(g, conv, self.widths[conv.x])
        else:
            result = self._multiply_add(g, conv)
        if conv.bias is not None:
            result = result + conv.bias.reshape(-1, *[1] * len(conv.kernel))
        for new in g.nodes:
            new.output[:] = [conv.result if name == result.name else name for name in new.output]
        self.shared.update((tensor.name, tensor) for tensor in g.initializers)
        return g.nodes

    def _read(self, node: onnx.NodeProto) -> _Conv:
        values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        padding = values.get("auto_pad", b"NOTSET")
        if padding not in (b"NOTSET", b"VALID"):
            raise ValueError(f"{node.name}: a Conv with auto_pad {padding.decode()} can't be replaced")
        arrays = []
        for name in node.input[1:]:
            if name and name not in self.constants:
                raise ValueError(f"{node.name}: a Conv whose weight is computed can't be replaced ({name})")
            arrays.append(numpy_helper.to_array(self.constants[name]) if name else None)
        weight, bias = (*arrays, None)[:2]
        if weight is None or weight.ndim not in (3, 4):
            raise ValueError(f"{node.name}: only 1-D and 2-D Convs can be replaced")
        rank = weight.ndim - 2
        pads = np.array(values.get("pads", [0] * 2 * rank))
        x, more = self._before_padding(node.input[0], rank)
        pads += more
        return _Conv(
            name=node.name or node.output[0],
            x=x,
            result=node.output[0],
            weight_name=node.input[1],
            weight=weight,
            bias=bias,
            group=values.get("group", 1),
            strides=tuple(values.get("strides", [1] * rank)),
            dilations=tuple(values.get("dilations", [1] * rank)),
            before=tuple(int(steps) for steps in pads[:rank]),
            after=tuple(int(steps) for steps in pads[rank:]),
        )

    def _before_padding(self, x: str, rank: int) -> tuple[str, np.ndarray]:
        """What was padded with zeros to be x, and by how much as in a Conv's pads, since padding once is enough."""
        none = np.zeros(2 * rank, np.int64)
        maker = self.makers.get(x)
        if maker is None or maker.op_type != "Pad" or len(maker.input) > 3:
            return x, none
        if any(helper.get_attribute_value(attribute) != b"constant" for attribute in maker.attribute):
            return x, none
        pads, value = (self._value(name) if name else np.array(0) for name in (*maker.input[1:], "")[:2])
        if pads is None or value is None or np.any(value) or pads.shape != (2 * (rank + 2),):
            return x, none
        sides = pads.reshape(2, -1)
        return (x, none) if sides[:, :2].any() or (sides < 0).any() else (maker.input[0], sides[:, 2:].ravel())

    def _value(self, name: str) -> np.ndarray | None:
        """What a value is if no input of the model has a part in it."""
        if name in self.constants:
            return numpy_helper.to_array(self.constants[name])
        nodes: dict[str, onnx.NodeProto] = {}
        known: dict[str, onnx.TensorProto] = {}
        pending = [name]
        while pending:
            source = pending.pop()
            if source in self.constants:
                known[source] = self.constants[source]
            elif source in self.makers:
                nodes[self.makers[source].output[0]] = self.makers[source]
                pending += [read for read in self.makers[source].input if read and read not in nodes]
            else:
                return None
        order = [node for node in self.graph.node if node.output and node.output[0] in nodes]
        result = helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None)
        initializers = []
        for key, tensor in known.items():
            initializers.append(onnx.TensorProto())
            initializers[-1].CopyFrom(tensor)
            initializers[-1].name = key
        graph = helper.make_graph(order, "value", [], [result], initializers)
        (array,) = ReferenceEvaluator(graph, opsets=self.opsets).run(None, {})
        return np.asarray(array)

    def _constant(self, name: str, array: np.ndarray) -> str:
        """A constant that several nodes share under this name."""
        if name not in self.shared:
            self.shared[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _dense(self, g: Graph, conv: _Conv) -> Value:
        """Weight [C', C * taps] times the unfolded input [B, C * taps, space']."""
        outputs, inputs = conv.weight.shape[:2]
        taps, rank = conv.taps, len(conv.kernel)
        weight = self._constant(f"{conv.weight_name}.rows", conv.weight.reshape(outputs, -1))
        x = _padded(g, conv)
        at_once = max(1, UNFOLDED * outputs // inputs)
        if rank == 2 and at_once < len(taps):
            # Whole rows of the kernel: 3 and 3 and 3 rather than 4 and 4 and 1.
            at_once = max(1, at_once // conv.kernel[1]) * conv.kernel[1]
        total: Value | None = None
        for first in range(0, len(taps), at_once):
            chunk = range(first, min(first + at_once, len(taps)))
            shifted = [_at_tap(g, conv, x, taps[tap]) for tap in chunk]
            if rank == 2 and total is None:
                space = g.Shape(shifted[0], start=2)
            columns = shifted[0]
            if len(chunk) > 1:
                columns = g.Concat(*(step[:, :, None] for step in shifted), axis=2)
            if len(chunk) > 1 or rank == 2:
                columns = columns.reshape(0, inputs * len(chunk), -1)
            part: Value | str = weight
            if len(chunk) < len(taps):
                # Cut out of the whole in the graph, once, when it is loaded: one weight stays one initializer.
                part = g.Gather(weight, np.add.outer(np.arange(inputs) * len(taps), chunk).ravel(), axis=1)
            term = g.MatMul(part, columns)
            total = term if total is None else total + term
        assert total is not None
        return g.Reshape(total, g.Concat(ints(0, outputs), space, axis=0)) if rank == 2 else total

    def _banded(self, g: Graph, conv: _Conv) -> Value:
        """Blocks [C, B * blocks, window] times bands [C, window, block]; a column of a band makes one step of a block.

        Channels come first: a product per channel, of all items at once. With items first there would be a product per
        item and channel, of few rows each, and onnxruntime would copy an address for each of them to the GPU.
        """
        channels, _, taps = conv.weight.shape
        (stride,), (dilation,), (span,) = conv.strides, conv.dilations, conv.spans
        (before,), (after,) = conv.before, conv.after
        block = BLOCK if span <= LONG_SPAN else LONG_BLOCK
        window = math.ceil(((block - 1) * stride + span) / ALIGNED) * ALIGNED

        # A step of zeros at the end stands for all padding.
        x = Value(g, conv.x)
        channels_first = x.transpose(1, 0, 2).pad((0, 0), (0, 0), (0, 1))
        steps = x.size(2)
        starts = _plus(steps, before + after - span + 1)
        firsts = g.Range(0, starts.squeeze(), block * stride)
        reach = self._constant(f"window.{before}.{window}", np.arange(-before, window - before))
        # Index -1 is the last step too.
        index = g.Max(g.Min(firsts[:, None] + reach, steps), ints(-1))
        blocks = channels_first[:, :, index].reshape(0, -1, window)

        name = f"band.{taps}.{dilation}.{stride}.{window}.{block}"
        bands = self._bands(
            g,
            conv,
            self._constant(name, _taps(taps, dilation=dilation, stride=stride, steps=np.arange(window), results=block)),
        )
        items = x.size(0)
        results = g.Reshape(blocks @ bands, g.Concat(ints(channels), items, ints(-1), axis=0))
        count = starts if stride == 1 else _plus(starts, stride - 1) // ints(stride)
        return results[:, :, :count].transpose(1, 0, 2)

    def _banded_rows(self, g: Graph, conv: _Conv, bands: int) -> Value:
        """[B, C, steps', kernel * bands] times [C, kernel * bands, bands']: products for steps, a matrix over bands."""
        rows, taps = conv.kernel
        before, after = conv.before[0], conv.after[0]
        x = Value(g, conv.x)
        if before or after:
            x = x.pad((0, 0), (0, 0), (before, after), (0, 0))
        at_rows = [_at_tap(g, conv, x, (row,)) for row in range(rows)]
        stride, dilation = conv.strides[1], conv.dilations[1]
        results = (bands + conv.before[1] + conv.after[1] - conv.spans[1]) // stride + 1
        tap = _taps(taps, dilation=dilation, stride=stride, steps=np.arange(bands) + conv.before[1], results=results)
        offsets = np.arange(rows)[:, None, None] * taps
        index = np.where(tap < taps, tap + offsets, rows * taps).reshape(rows * bands, results)
        blocks = g.Concat(*at_rows, axis=3) if rows > 1 else at_rows[0]
        return blocks @ self._bands(g, conv, g.constant(index, "band"))

    def _bands(self, g: Graph, conv: _Conv, index: Value | str) -> Value:
        """[C, *index]: for each channel the taps that an index names; the one behind the last is zero.

        Made when the graph is loaded: a file with the matrices in it would be many times as large.
        """
        channels = len(conv.weight)
        weight = self._constant(f"{conv.weight_name}.rows", conv.weight.reshape(channels, -1))
        zeros = self._constant(f"zeros.{channels}", np.zeros((channels, 1), conv.weight.dtype))
        return g.Gather(g.Concat(weight, zeros, axis=1), index, axis=1)

    def _multiply_add(self, g: Graph, conv: _Conv) -> Value:
        """The sum over taps of the shifted input times a number per channel."""
        x, columns = _padded(g, conv), conv.weight.reshape(len(conv.weight), -1)
        total: Value | None = None
        for number, tap in enumerate(conv.taps):
            term = _at_tap(g, conv, x, tap) * columns[:, number].reshape(-1, *[1] * len(tap))
            total = term if total is None else total + term
        assert total is not None
        return total


def _padded(g: Graph, conv: _Conv) -> Value:
    """The input with the zeros around it that the Conv would add."""
    x = Value(g, conv.x)
    sides = list(zip(conv.before, conv.after, strict=True))
    return x.pad((0, 0), (0, 0), *sides) if np.any(sides) else x


def _at_tap(g: Graph, conv: _Conv, x: Value, tap: Sequence[int]) -> Value:
    """[B, C, *space'], what one tap of the kernel meets of the padded input.

    With fewer numbers than the kernel has axes, it is one on the first of them, and the others stay whole.
    """
    axes = range(len(tap))
    if all(conv.kernel[axis] == conv.strides[axis] == 1 for axis in axes):
        return x
    start = [tap[axis] * conv.dilations[axis] for axis in axes]
    # Counted from the end, so that no length is needed.
    behind = [start[axis] - (conv.spans[axis] - 1) for axis in axes]
    end = [place or END for place in behind]
    return g.Slice(x, ints(*start), ints(*end), ints(*(2 + axis for axis in axes)), ints(*conv.strides[: len(tap)]))


def _taps(taps: int, *, dilation: int, stride: int, steps: np.ndarray, results: int) -> np.ndarray:
    """int64 [steps, results]: the tap by which a result takes a step, or `taps` if by none.

    Result 0 begins at step 0, the next at step `stride`.
    """
    distance = steps[:, None] - np.arange(results) * stride
    tap, between = np.divmod(distance, dilation)
    return np.where((between == 0) & (tap >= 0) & (tap < taps), tap, taps)


def _plus(value: Value, number: int) -> Value:
    return value + ints(number) if number else value


def _widths(model: onnx.ModelProto) -> dict[str, int]:
    """The size of the last axis of each value that has one of a known size."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(model.graph.node)
    light.graph.output.extend(model.graph.output)
    light.graph.input.extend(model.graph.input)
    # Weights as inputs: onnx takes no more than 2 GiB, and only small constants are parts of shapes.
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            light.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            light.graph.initializer.append(tensor)
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    dims = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.input, *inferred.value_info)}
    return {name: dim[-1].dim_value for name, dim in dims.items() if dim and dim[-1].dim_value}
