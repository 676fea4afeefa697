"""Convert a float32 graph to mixed precision: float16 where it is safe.

Matrix products and convolutions compute in float16 and store their weights as float16. So do operators that only move,
scale or gate their results. Sums over many numbers, norms, softmax, logarithms and exponentials stay in float32, where
float16 would overflow or underflow. So do values that depend on weights only, which are computed when the model is
loaded. Inputs and outputs keep their types. The last layer stays in float32, because two labels may differ by less than
float16 resolves. A hybrid has two.

Source: PyTorch's autocast (documentation of torch.amp, "Autocast Op Reference").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export_scripts.operators.walk import all_graphs, bodies, names_read
from export_scripts.operators.weights import array_of

HEAVY = ("Conv", "Gemm", "MatMul")
OPERANDS = {"RotaryEmbedding": (0, 2, 3)}
"""Positions of the operands that are numbers, for operators that have others too."""
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
    "RotaryEmbedding": (0,),
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
MOVES = ("Reshape", "Transpose")
"""Operators that only move numbers."""
LARGEST = float(np.finfo(np.float16).max)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert to mixed precision; inputs and outputs keep their types."""
    converted = onnx.shape_inference.infer_shapes(model)
    _Scope(converted.graph, None, last_layers(converted.graph)).convert()
    return converted


def last_layers(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that compute the scores, the first output: the last product of each head."""
    makers = {name: node for node in graph.node for name in node.output}
    layers, behind = set(), [makers[graph.output[0].name]]
    while behind:
        node = behind.pop()
        if node.op_type in HEAVY:
            layers.add(node.name)
        else:
            behind += [makers[name] for name in node.input if name in makers]
    return layers


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
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for inner in all_graphs(graph):
            for node in inner.node:
                for name in node.input:
                    self.readers.setdefault(name, []).append(node)
        self.computed = self._computed_from_weights()
        self.bools = {value.name for value in graph.value_info if value.type.tensor_type.elem_type == TensorProto.BOOL}

    def convert(self) -> None:
        """Convert all nodes. Outputs keep the types they are declared with."""
        self._convert_nodes()
        for output in self.graph.output:
            if output.name in self.fp16:
                self._leave(output, TensorProto.FLOAT)
        self._finish()

    def _convert_nodes(self) -> None:
        self._store_halves()
        for node in self.graph.node:
            self._convert(node)

    def _finish(self) -> None:
        used = {name for node in self.nodes for name in names_read(node)} | {out.name for out in self.graph.output}
        used -= {name for node in self.nodes for name in node.output}
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        # One by one: protobuf keeps the memory of those that are removed, so to add the others again would double it.
        for index in reversed(range(len(self.graph.initializer))):
            if self.graph.initializer[index].name not in used:
                del self.graph.initializer[index]

    def _convert(self, node: onnx.NodeProto) -> None:
        self._note(node)
        operands = EITHER.get(node.op_type, ())
        numbers = _numbers(node)
        if node.op_type == "Concat":
            operands = tuple(numbers)
        given = [place for place in operands if place < len(node.input) and node.input[place]]
        if node.op_type in OF_NO_TYPE:
            self.nodes.append(node)
        elif node.op_type == "If":
            self._branch(node)
        elif self.computed.issuperset(node.output):
            self._compute(node, numbers, TensorProto.FLOAT)
        elif self._is_heavy(node):
            self._compute(node, numbers, TensorProto.FLOAT16)
        elif self._all_fp16(node, given):
            self._compute(node, {*given, *OPERANDS.get(node.op_type, ())}, TensorProto.FLOAT16)
        elif node.op_type == "Concat" and all(map(self._only_for_products, node.output)):
            self._compute(node, given, TensorProto.FLOAT16)
        else:
            self._compute(node, numbers, TensorProto.FLOAT)

    def _is_heavy(self, node: onnx.NodeProto) -> bool:
        return node.op_type in HEAVY and node.name not in self.kept

    def _only_for_products(self, name: str) -> bool:
        """Whether only products in float16 read a value, so that nothing is lost if it is float16 before."""
        readers = self.readers.get(name, [])
        return bool(readers) and all(
            self._is_heavy(node)
            or (node.op_type in MOVES and node.input[0] == name and self._only_for_products(node.output[0]))
            for node in readers
        )

    def _branch(self, node: onnx.NodeProto) -> None:
        """Convert an If. A result is float16 if it is in one of the branches."""
        branches = [_Scope(body, self, self.kept) for body in bodies(node)]
        for branch in branches:
            branch._convert_nodes()
        for results in zip(node.output, *(branch.graph.output for branch in branches), strict=True):
            result, outputs = results[0], results[1:]
            if any(output.name in branch.fp16 for output, branch in zip(outputs, branches, strict=True)):
                self.fp16.add(result)
                for output, branch in zip(outputs, branches, strict=True):
                    branch._leave(output, TensorProto.FLOAT16)
        for branch in branches:
            branch._finish()
        self.nodes.append(node)

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

    def _computed_from_weights(self) -> set[str]:
        """Names of values that depend on weights and constants only, computed when the model is loaded."""
        known = {tensor.name for tensor in self.graph.initializer}
        computed: set[str] = set()
        for node in self.graph.node:
            if known.issuperset(name for name in node.input if name) and not any(True for _ in bodies(node)):
                known.update(node.output)
                if node.input:
                    computed.update(node.output)
        return computed

    def _store_halves(self) -> None:
        """Store weights as float16 that only the weights of products in float16 are computed from.

        Biases computed from them are added to these products.
        """
        for tensor in list(self.graph.initializer):
            if tensor.name not in self.weights or len(tensor.dims) < 2:
                continue
            if not any(self.computed.issuperset(node.output) for node in self.readers.get(tensor.name, [])):
                continue
            readers = self._final_readers(tensor.name)
            if not any(map(self._is_heavy, readers)) or any(node.name in self.kept for node in readers):
                continue
            half = self._cast(tensor.name, TensorProto.FLOAT16)
            self.nodes.append(
                helper.make_node("Cast", [half], [tensor.name], name=f"{tensor.name}.single", to=TensorProto.FLOAT)
            )

    def _final_readers(self, name: str) -> list[onnx.NodeProto]:
        """Nodes that read a weight, or what is computed from it, and depend on the model's inputs."""
        final: list[onnx.NodeProto] = []
        for node in self.readers.get(name, []):
            if self.computed.issuperset(node.output):
                final += [reader for output in node.output for reader in self._final_readers(output)]
            else:
                final.append(node)
        return final

    def _is_fp16(self, name: str) -> bool:
        return name in self.fp16 or (self.outer is not None and self.outer._is_fp16(name))

    def _is_exact(self, name: str) -> bool:
        """Whether float16 can hold the value: a mask, or a constant within float16's range."""
        weight = self._weight(name)
        if weight is not None:
            return bool(np.abs(array_of(weight)).max(initial=0) <= LARGEST)
        return name in self.masks or name in self.computed or (self.outer is not None and self.outer._is_exact(name))

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
                half = array_of(weight).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(half, result))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [result], name=result, to=kind))
            if kind == TensorProto.FLOAT16:
                self.fp16.add(result)
        return result

    def _leave(self, output: onnx.ValueInfoProto, kind: int) -> None:
        """Give an output that type: rename its value, so that the output of that name can be the cast."""
        output.type.tensor_type.elem_type = kind
        if (output.name in self.fp16) == (kind == TensorProto.FLOAT16):
            return
        inside = f"{output.name}.inside"
        for node in self.nodes:
            node.input[:] = [inside if name == output.name else name for name in node.input]
            node.output[:] = [inside if name == output.name else name for name in node.output]
        self.nodes.append(helper.make_node("Cast", [inside], [output.name], name=f"{output.name}.cast", to=kind))


def _numbers(node: onnx.NodeProto) -> Sequence[int]:
    """Positions of the operands that may be float16."""
    return OPERANDS.get(node.op_type, range(len(node.input)))


def _is_float(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_type == TensorProto.FLOAT)
