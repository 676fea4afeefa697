"""Convolutions as matrix products, for GPUs.

For each new shape, cuDNN plans each Conv node again, and nearly every batch of speech has a new shape. The plans then
cost more than the work itself. A MatMul needs no plan.

The product that replaces a Conv with input [B, C, steps] or [B, C, steps, bands]:

- kernel of one tap: weight [C', C] times the input
- group 1: weight [C', C * taps] times the unfolded input, one Slice per tap
- one channel per group, 1-D: overlapping blocks of the input times a banded (Toeplitz) matrix per channel
- one channel per group, 2-D: the kernel's rows of all bands times such a matrix over bands
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
from export_scripts.operators.shapes import widths
from export_scripts.operators.value import END
from export_scripts.operators.walk import drop_unread
from export_scripts.operators.weights import array_of

UNFOLDED = 4
"""Most numbers of the unfolded input per number of the result; kernels with more taps become a sum of products. A batch
of 2400 s has 120,000 steps of 896 channels in Jasper, 0.4 GB in float32; all 29 taps in one product would take 12
GB."""
BLOCK, LONG_BLOCK, LONG_SPAN = 32, 64, 96
"""Steps per row of a depthwise product; LONG_BLOCK for kernels that span more than LONG_SPAN steps. Each block reads
the kernel's span again, so short blocks move more data; long blocks have larger matrices."""
ALIGNED = 8
"""Rows of a banded matrix are a multiple of this, since cuBLAS has faster kernels for aligned float16."""


def without_convolutions(traced: onnx.ModelProto) -> onnx.ModelProto:
    """Replace each Conv of a model and its subgraphs; returns a copy.

    Each weight stays one initializer, with the output channels as first axis.

    Raises:
        ValueError: A Conv is of a kind that can't be replaced; the message names it.
    """
    model = onnx.ModelProto()
    model.CopyFrom(traced)
    constants: dict[str, onnx.TensorProto] = {}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    _Scope(model.graph, outer={}, widths=widths(model), opsets=opsets, shared=constants).replace()
    model.graph.initializer.extend(constants.values())
    return model


@dataclass(frozen=True, kw_only=True)
class _Conv:
    """A Conv node.

    Attributes:
        name: Name of the node.
        x: Name of the input [B, C, *space].
        result: Name of the output [B, C', *space'].
        weight_name: Name of the weight.
        weight: float32 [C', C / group, *kernel].
        bias: float32 [C'], or None.
        group: Number of groups of channels.
        strides: Stride of each axis of the space.
        dilations: Dilation of each axis of the space.
        before: Padding before each axis of the space.
        after: Padding after each axis of the space.
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
        """Steps from the kernel's first tap to its last, inclusive."""
        return tuple((taps - 1) * gap + 1 for taps, gap in zip(self.kernel, self.dilations, strict=True))

    @property
    def taps(self) -> list[tuple[int, ...]]:
        """Position of each tap in the kernel, in the order of the weight."""
        return list(product(*map(range, self.kernel)))


class _Scope:
    """A graph, whose nodes also read constants of the surrounding graphs."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        *,
        outer: Mapping[str, onnx.TensorProto],
        widths: Mapping[str, int],
        opsets: dict[str, int],
        shared: dict[str, onnx.TensorProto],
    ) -> None:
        """Collect the graph's constants.

        Args:
            graph: Graph to change.
            outer: Constants of the surrounding graphs.
            widths: Size of the last axis of each value for which it is known.
            opsets: Opsets of the model.
            shared: List that gets the constants of the new nodes; they belong to the outermost graph.
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
            arrays.append(array_of(self.constants[name]) if name else None)
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
        """Undo zero padding: the value that was padded to x, and its padding in the order of a Conv's pads."""
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
        """A value's array if it doesn't depend on the model's inputs, else None."""
        if name in self.constants:
            return array_of(self.constants[name])
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
        initializers = [numpy_helper.from_array(array_of(tensor), key) for key, tensor in known.items()]
        graph = helper.make_graph(order, "value", [], [result], initializers)
        (array,) = ReferenceEvaluator(graph, opsets=self.opsets).run(None, {})
        return np.asarray(array)

    def _constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant that several nodes share, unless it exists; returns its name."""
        if name not in self.shared:
            self.shared[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _dense(self, g: Graph, conv: _Conv) -> Value:
        """Weight [C', C * taps] times the unfolded input [B, C * taps, space']."""
        outputs, inputs = conv.weight.shape[:2]
        taps, rank = conv.taps, len(conv.kernel)
        weight = self._constant(f"{conv.weight_name}.rows", conv.weight.reshape(outputs, -1))
        x = _padded(g, conv)
        taps_per_product = max(1, UNFOLDED * outputs // inputs)
        if rank == 2 and taps_per_product < len(taps):
            # Whole rows of the kernel: 3, 3 and 3 taps rather than 4, 4 and 1.
            taps_per_product = max(1, taps_per_product // conv.kernel[1]) * conv.kernel[1]
        total: Value | None = None
        for first in range(0, len(taps), taps_per_product):
            chunk = range(first, min(first + taps_per_product, len(taps)))
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
                # Cut in the graph, so that one weight stays one initializer; it happens once, when the model is loaded.
                part = g.Gather(weight, np.add.outer(np.arange(inputs) * len(taps), chunk).ravel(), axis=1)
            term = g.MatMul(part, columns)
            total = term if total is None else total + term
        assert total is not None
        return g.Reshape(total, g.Concat(ints(0, outputs), space, axis=0)) if rank == 2 else total

    def _banded(self, g: Graph, conv: _Conv) -> Value:
        """Blocks [C, B * blocks, window] times bands [C, window, block]; each column of a band computes one step.

        Channels come first, for one product per channel over all items. With items first there would be one small
        product per item and channel, and onnxruntime would copy an address for each of them to the GPU.
        """
        channels, _, taps = conv.weight.shape
        (stride,), (dilation,), (span,) = conv.strides, conv.dilations, conv.spans
        (before,), (after,) = conv.before, conv.after
        block = BLOCK if span <= LONG_SPAN else LONG_BLOCK
        window = math.ceil(((block - 1) * stride + span) / ALIGNED) * ALIGNED

        # All padding reads one step of zeros, added at the end.
        x = Value(g, conv.x)
        channels_first = x.transpose(1, 0, 2).pad((0, 0), (0, 0), (0, 1))
        steps = x.size(2)
        starts = _plus(steps, before + after - span + 1)
        firsts = g.Range(0, starts.squeeze(), block * stride)
        reach = self._constant(f"window.{before}.{window}", np.arange(-before, window - before))
        # Index -1 is that step too.
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
        """Rows [B, C, steps', kernel * bands] times banded matrices [C, kernel * bands, bands']."""
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
        """Taps of each channel by an index, [C, *index]; the index after the last tap is zero.

        Computed when the model is loaded. A file with the matrices would be many times as large.
        """
        channels = len(conv.weight)
        weight = self._constant(f"{conv.weight_name}.rows", conv.weight.reshape(channels, -1))
        zeros = self._constant(f"zeros.{channels}", np.zeros((channels, 1), conv.weight.dtype))
        return g.Gather(g.Concat(weight, zeros, axis=1), index, axis=1)

    def _multiply_add(self, g: Graph, conv: _Conv) -> Value:
        """Sum over taps of the shifted input times one number per channel."""
        x, columns = _padded(g, conv), conv.weight.reshape(len(conv.weight), -1)
        total: Value | None = None
        for number, tap in enumerate(conv.taps):
            term = _at_tap(g, conv, x, tap) * columns[:, number].reshape(-1, *[1] * len(tap))
            total = term if total is None else total + term
        assert total is not None
        return total


def _padded(g: Graph, conv: _Conv) -> Value:
    """The input with the Conv's zero padding."""
    x = Value(g, conv.x)
    sides = list(zip(conv.before, conv.after, strict=True))
    return x.pad((0, 0), (0, 0), *sides) if np.any(sides) else x


def _at_tap(g: Graph, conv: _Conv, x: Value, tap: Sequence[int]) -> Value:
    """The padded input as one tap of the kernel reads it, [B, C, *space'].

    A tap with fewer numbers than the kernel has axes selects on the first axes only; the others stay whole.
    """
    axes = range(len(tap))
    if all(conv.kernel[axis] == conv.strides[axis] == 1 for axis in axes):
        return x
    start = [tap[axis] * conv.dilations[axis] for axis in axes]
    # Counted from the end, so that no length is needed.
    from_end = [start[axis] - (conv.spans[axis] - 1) for axis in axes]
    end = [offset or END for offset in from_end]
    return g.Slice(x, ints(*start), ints(*end), ints(*(2 + axis for axis in axes)), ints(*conv.strides[: len(tap)]))


def _taps(taps: int, *, dilation: int, stride: int, steps: np.ndarray, results: int) -> np.ndarray:
    """The tap with which each result reads each step, int64 [steps, results]; `taps` if none does.

    Result 0 begins at step 0, the next at step `stride`.
    """
    distance = steps[:, None] - np.arange(results) * stride
    tap, between = np.divmod(distance, dilation)
    return np.where((between == 0) & (tap >= 0) & (tap < taps), tap, taps)


def _plus(value: Value, number: int) -> Value:
    return value + ints(number) if number else value
