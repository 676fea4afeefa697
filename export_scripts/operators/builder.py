"""A small builder over onnx.helper, so that a stage graph reads as the calculation it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export_scripts.operators.walk import all_graphs

OPSET = 18
"""Of graphs without strings.

With opset 20, the CUDA provider of onnxruntime 1.19 leaves Pad, Equal and ReduceMax to the CPU: a kernel that names no
last version serves no later version of its operator (docs/placement.md).
"""
OPSETS_OF_OPERATORS = {"StringConcat": 20}
"""Operators that are newer than OPSET."""
ML_OPSET = 3
IR_VERSION = 9
"""Opsets and a file format that onnxruntime 1.19 (Triton 24.10) and every later one load."""

Dims = Sequence[int | str]
Array = npt.NDArray[Any]
Operand = str | Array


class Graph:
    """Collects nodes; every ONNX operator is a method that returns the name of its result.

    `g.Gather(table, rows, axis=0)` adds a Gather node. Where an operand is an array, it becomes a
    constant; where it is the empty string, the optional input is left out.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.metadata: dict[str, str] = {}
        self._names = 0

    def __getattr__(self, operator: str) -> Callable[..., str]:
        if not operator[:1].isupper():
            raise AttributeError(operator)

        def add(*operands: Operand, **attributes: Any) -> str:
            return self.add(operator, operands, 1, **attributes)[0]

        return add

    def add(self, operator: str, operands: Sequence[Operand], results: int, **attributes: Any) -> list[str]:
        """Add one node and return the names of its results."""
        inputs = [operand if isinstance(operand, str) else self.constant(operand) for operand in operands]
        outputs = [self._fresh(operator) for _ in range(results)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def constant(self, array: Array, hint: str = "constant") -> str:
        """Add a constant and return its name, in which `hint` stands."""
        name = self._fresh(hint)
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def input(self, name: str, dtype: int, dims: Dims) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return name

    def output(self, name: str, value: str, dtype: int, dims: Dims) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self.outputs.append(helper.make_tensor_value_info(name, dtype, dims))

    def append(self, model: onnx.ModelProto, inputs: dict[str, str]) -> dict[str, str]:
        """Take over a model's nodes, feeding its inputs from `inputs`; returns where its outputs are."""
        prefix = self._fresh("model")
        renamed = dict(inputs)

        def rename(name: str) -> str:
            return renamed.setdefault(name, f"{prefix}.{name}") if name else ""

        taken = onnx.GraphProto()
        taken.CopyFrom(model.graph)
        _rename(taken, rename)
        self.initializers.extend(taken.initializer)
        self.nodes.extend(taken.node)
        return {output.name: rename(output.name) for output in model.graph.output}

    def graph(self) -> onnx.GraphProto:
        """The graph alone, to be the body of a Loop or an If."""
        return helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)

    def model(self) -> onnx.ModelProto:
        graph = self.graph()
        model = helper.make_model(graph, opset_imports=opset_imports(graph))
        model.ir_version = IR_VERSION
        model.producer_name = "nemo-triton"
        helper.set_model_props(model, self.metadata)
        return model

    def _fresh(self, hint: str) -> str:
        self._names += 1
        return f"{self.name}.{hint}.{self._names}"


def opset_imports(graph: onnx.GraphProto) -> list[onnx.OperatorSetIdProto]:
    """The lowest opsets that have all operators of a graph of this builder."""
    nodes = [node for inner in all_graphs(graph) for node in inner.node]
    opsets = {"": max([OPSET, *(OPSETS_OF_OPERATORS.get(node.op_type, OPSET) for node in nodes)])}
    if any(node.domain for node in nodes):
        opsets["ai.onnx.ml"] = ML_OPSET
    return [helper.make_opsetid(domain, version) for domain, version in opsets.items()]


def _rename(graph: onnx.GraphProto, rename: Callable[[str], str]) -> None:
    """Rename all values and nodes of a graph and of the graphs within its nodes."""
    for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        value.name = rename(value.name)
    for node in graph.node:
        node.name = rename(node.name)
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, rename)


def ints(*values: int) -> Array:
    """A constant int64 vector, as shapes and axes are written."""
    return np.array(values, dtype=np.int64)
