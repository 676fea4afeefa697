"""Convert a float32 graph to mixed precision: float16 where it is safe.

Matrix products and convolutions compute in float16 and store their weights as float16. So do operators that only move,
scale or gate their results. Sums over many numbers, norms, softmax, logarithms and exponentials stay in float32, where
float16 would overflow or underflow. Inputs and outputs keep their types. The last layer stays in float32, because two
labels may differ by less than float16 resolves.

Source: PyTorch's autocast (documentation of torch.amp, "Autocast Op Reference").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export_scripts.operators.walk import names_read

HEAVY = ("Conv", "Gemm", "MatMul")
EITHER: Mapping[str, tuple[int, ...]] = {
    "Add": (0, 1),
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "Identity": (0,),
    "Mul": (0, 1),
    "Pad": (0, 2),
    "Relu": (0,),
    "Reshape": (0,),
    "Sigmoid": (0,),
    "Slice": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Sub": (0, 1),
    "Transpose": (0,),
    "Unsqueeze": (0,),
    "Where": (1, 2),
}
"""Operators that compute in the type of the operands at these positions: float16 if all have it, else float32."""
OF_NO_TYPE = ("Shape", "Size")
LARGEST = float(np.finfo(np.float16).max)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert to mixed precision; inputs and outputs keep their types."""
    converted = onnx.shape_inference.infer_shapes(model)
    _Scope(converted.graph, None, {last_layer(converted.graph)}).convert()
    return converted


def last_layer(graph: onnx.GraphProto) -> str:
    """Name of the node that computes the scores: the last product before the outputs."""
    return str([node.name for node in graph.node if node.op_type in HEAVY][-1])


class _Scope:
    """A graph, or the body of a loop, whose nodes also read values of the graphs around it."""

    def __init__(self, graph: onnx.GraphProto, outer: _Scope | None, kept: set[str]) -> None:
        self.graph = graph
        self.outer = outer
        self.kept = kept
        self.fp16: set[str] = set()
        self.casts: dict[tuple[str, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.weights = {tensor.name: tensor for tensor in graph.initializer if _is_float(tensor)}
        self.masks: set[str] = set()
        self.cut = self._cut_weights()
        self.bools = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.BOOL}

    def convert(self) -> None:
        for node in self.graph.node:
            self._convert(node)
        # Outputs keep the types they are declared with.
        for output in self.graph.output:
            if output.name in self.fp16:
                self._leave(output.name)
        used = {name for node in self.nodes for name in names_read(node)} | {out.name for out in self.graph.output}
        initializers = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(initializers)

    def _convert(self, node: onnx.NodeProto) -> None:
        self._note(node)
        operands = EITHER.get(node.op_type, ())
        if node.op_type == "Concat":
            operands = tuple(range(len(node.input)))
        given = [place for place in operands if place < len(node.input) and node.input[place]]
        if node.op_type in HEAVY and node.name not in self.kept:
            self._compute(node, range(len(node.input)), TensorProto.FLOAT16)
        elif node.name in self.cut or self._all_fp16(node, given):
            self._compute(node, given, TensorProto.FLOAT16)
        elif node.op_type in OF_NO_TYPE:
            self.nodes.append(node)
        else:
            self._compute(node, range(len(node.input)), TensorProto.FLOAT)

    def _all_fp16(self, node: onnx.NodeProto, operands: Sequence[int]) -> bool:
        """Whether these operands are float16, or exact in float16, and at least one is float16."""
        fp16 = [self._is_fp16(node.input[place]) for place in operands]
        return any(fp16) and all(
            known or self._is_exact(node.input[place]) for known, place in zip(fp16, operands, strict=True)
        )

    def _compute(self, node: onnx.NodeProto, operands: Iterable[int], kind: int) -> None:
        """Add the node with these operands cast to that type."""
        for place in operands:
            name = node.input[place]
            if name and self._is_fp16(name) != (kind == TensorProto.FLOAT16):
                node.input[place] = self._cast(name, kind)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _Scope(attribute.g, self, self.kept).convert()
        if kind == TensorProto.FLOAT16:
            self.fp16.update(node.output)
        self.nodes.append(node)

    def _note(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            (attribute,) = node.attribute
            if attribute.name == "value" and _is_float(attribute.t):
                self.weights[node.output[0]] = attribute.t
        elif self._is_mask(node):
            self.masks.update(node.output)

    def _is_mask(self, node: onnx.NodeProto) -> bool:
        """Whether the node casts bools to 0 and 1, or expands such a mask."""
        if node.op_type in ("Expand", "Unsqueeze"):
            return node.input[0] in self.masks
        return bool(node.op_type == "Cast" and node.input[0] in self.bools and node.attribute[0].i == TensorProto.FLOAT)

    def _cut_weights(self) -> set[str]:
        """Names of nodes that cut part of a weight for a product (operators/convolutions.py).

        They read float16, so that the weight is stored as float16.
        """
        kept = {node.name for node in self.graph.node if node.op_type not in HEAVY or node.name in self.kept}
        elsewhere = {name for node in self.graph.node if node.name in kept for name in names_read(node)}
        elsewhere |= {output.name for output in self.graph.output}
        return {
            node.name
            for node in self.graph.node
            if node.op_type == "Gather" and node.input[0] in self.weights and node.output[0] not in elsewhere
        }

    def _is_fp16(self, name: str) -> bool:
        return name in self.fp16 or (self.outer is not None and self.outer._is_fp16(name))

    def _is_exact(self, name: str) -> bool:
        """Whether float16 can hold the value: a mask, or a constant within float16's range."""
        weight = self._weight(name)
        if weight is not None:
            return bool(np.abs(numpy_helper.to_array(weight)).max(initial=0) <= LARGEST)
        return name in self.masks or (self.outer is not None and self.outer._is_exact(name))

    def _weight(self, name: str) -> onnx.TensorProto | None:
        weight = self.weights.get(name)
        return weight if weight is not None or self.outer is None else self.outer._weight(name)

    def _cast(self, name: str, kind: int) -> str:
        """Name of the value in that type; a constant is stored in it."""
        result = self.casts.get((name, kind))
        if result is None:
            result = self.casts[name, kind] = f"{name}.{'half' if kind == TensorProto.FLOAT16 else 'single'}"
            weight = self._weight(name)
            if weight is not None and kind == TensorProto.FLOAT16:
                array = numpy_helper.to_array(weight)
                self.graph.initializer.append(numpy_helper.from_array(array.astype(np.float16), result))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [result], name=result, to=kind))
            if kind == TensorProto.FLOAT16:
                self.fp16.add(result)
        return result

    def _leave(self, output: str) -> None:
        """Rename a float16 value, so that the output of that name can be its float32 cast."""
        inside = f"{output}.half"
        for node in self.nodes:
            node.input[:] = [inside if name == output else name for name in node.input]
            node.output[:] = [inside if name == output else name for name in node.output]
        self.nodes.append(helper.make_node("Cast", [inside], [output], name=f"{output}.single", to=TensorProto.FLOAT))


def _is_float(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_type == TensorProto.FLOAT)
