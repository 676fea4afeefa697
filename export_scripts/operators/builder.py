"""A small builder over onnx.helper, so that the code of a stage reads like the calculation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export_scripts.operators.value import Array, Operand, Value, ints
from export_scripts.operators.walk import all_graphs
from nemo_triton.contract import Tensor, TensorType

__all__ = ["Array", "Graph", "Operand", "Value", "ints"]

OPSET = 18
"""Opset of graphs without strings.

With opset 20, the CUDA provider of onnxruntime 1.19 leaves Pad, Equal and ReduceMax to the CPU, because it has no
kernels for these versions of the operators (docs/placement.md).
"""
OPSETS_OF_OPERATORS = {"StringConcat": 20}
"""Operators that need a newer opset."""
CONTRIB = "com.microsoft"
"""Domain of onnxruntime's own operators."""
OTHER_OPSETS = {"ai.onnx.ml": 3, CONTRIB: 1}
"""Opsets of other domains."""
IR_VERSION = 9
"""File format. Like the opsets, it is one that onnxruntime 1.19 (Triton 24.10) and later load."""

ONNX_TYPES: dict[TensorType, int] = {
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "FP32": TensorProto.FLOAT,
    "BYTES": TensorProto.STRING,
}
BATCH = "items"
"""Name of the first axis of served tensors that are not ragged: one item per request."""

Dims = Sequence[int | str]


class Graph:
    """A graph under construction. Every ONNX operator is a method that adds a node and returns its result.

    `g.Gather(table, rows, axis=0)` adds a Gather node. An array or number as operand becomes a constant; the empty
    string leaves an optional input out. Results support NumPy's operators, see Value.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.metadata: dict[str, str] = {}
        self._names = 0

    def __getattr__(self, operator: str) -> Callable[..., Value]:
        if not operator[:1].isupper():
            raise AttributeError(operator)

        def add(*operands: Operand, **attributes: Any) -> Value:
            return self.add(operator, operands, 1, **attributes)[0]

        return add

    def add(self, operator: str, operands: Sequence[Operand], results: int, **attributes: Any) -> list[Value]:
        """Add one node and return its results."""
        inputs = [self._name(operand) for operand in operands]
        outputs = [self._fresh(operator) for _ in range(results)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return [Value(self, output) for output in outputs]

    def constant(self, operand: Array | np.generic | int | float, hint: str = "constant") -> Value:
        """Add a constant whose name contains `hint`."""
        array = np.asarray(operand, np.float32 if isinstance(operand, float) else None)
        name = self._fresh(hint)
        self.initializers.append(numpy_helper.from_array(array, name))
        return Value(self, name)

    def arange(self, stop: Operand) -> Value:
        """int64 [stop]: 0, 1, 2, ..."""
        return self.Range(0, stop, 1)

    def read(self, value: Value) -> Value:
        """A value of the surrounding graph, for calculations in this graph.

        Without it, operators on the value would add their nodes to the surrounding graph.
        """
        return Value(self, value.name)

    def input(self, name: str, dtype: int, dims: Dims) -> Value:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return Value(self, name)

    def output(self, name: str, value: Operand, dtype: int, dims: Dims) -> None:
        self.nodes.append(helper.make_node("Identity", [self._name(value)], [name], name=name))
        self.outputs.append(helper.make_tensor_value_info(name, dtype, dims))

    def take(self, tensor: Tensor, **sizes: int) -> Value:
        """Declare a served tensor as an input.

        Args:
            tensor: Tensor of the contract.
            sizes: Sizes of named dims that are fixed for a model, such as mels=80.
        """
        return self.input(tensor.name, ONNX_TYPES[tensor.dtype], _batched(tensor, sizes))

    def give(self, tensor: Tensor, value: Value, **sizes: int) -> None:
        """Declare a value of the tensor's type as a served output; sizes: see `take`."""
        self.output(tensor.name, value, ONNX_TYPES[tensor.dtype], _batched(tensor, sizes))

    def append(self, model: onnx.ModelProto, inputs: Mapping[str, Operand]) -> dict[str, Value]:
        """Add a model's nodes with `inputs` as its inputs; returns its outputs by name."""
        prefix = self._fresh("model")
        renamed = {name: self._name(operand) for name, operand in inputs.items()}

        def rename(name: str) -> str:
            return renamed.setdefault(name, f"{prefix}.{name}") if name else ""

        copy = onnx.GraphProto()
        copy.CopyFrom(model.graph)
        _rename(copy, rename)
        self.initializers.extend(copy.initializer)
        self.nodes.extend(copy.node)
        return {output.name: Value(self, rename(output.name)) for output in model.graph.output}

    def graph(self) -> onnx.GraphProto:
        """The graph, for the body of a Loop or an If."""
        return helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)

    def model(self) -> onnx.ModelProto:
        graph = self.graph()
        model = helper.make_model(graph, opset_imports=opset_imports(graph))
        model.ir_version = IR_VERSION
        model.producer_name = "nemo-triton"
        helper.set_model_props(model, self.metadata)
        return model

    def _name(self, operand: Operand) -> str:
        if isinstance(operand, Value):
            return operand.name
        return operand if isinstance(operand, str) else self.constant(operand).name

    def _fresh(self, hint: str) -> str:
        self._names += 1
        return f"{self.name}.{hint}.{self._names}"


def opset_imports(graph: onnx.GraphProto) -> list[onnx.OperatorSetIdProto]:
    """The lowest opsets that have all operators of a graph made by this builder."""
    nodes = [node for inner in all_graphs(graph) for node in inner.node]
    opsets = {"": max([OPSET, *(OPSETS_OF_OPERATORS.get(node.op_type, OPSET) for node in nodes)])}
    opsets |= {domain: OTHER_OPSETS[domain] for domain in sorted({node.domain for node in nodes if node.domain})}
    return [helper.make_opsetid(domain, version) for domain, version in opsets.items()]


def _rename(graph: onnx.GraphProto, rename: Callable[[str], str]) -> None:
    """Rename all values and nodes of a graph and its subgraphs."""
    for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        value.name = rename(value.name)
    for node in graph.node:
        node.name = rename(node.name)
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, rename)


def _batched(tensor: Tensor, sizes: Mapping[str, int]) -> Dims:
    return [BATCH, *(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in tensor.dims)]
