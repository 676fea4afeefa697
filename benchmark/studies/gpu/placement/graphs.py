"""Predict where onnxruntime runs the nodes of a graph, by the rules in its source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx
from onnx import TensorProto

from benchmark.studies.gpu.placement import contrib
from benchmark.studies.gpu.placement.kernels import Kernels
from benchmark.studies.gpu.placement.result import PER_BATCH, PER_BLOCK, PER_BUCKET, Copy, PlacedNode, Placement

HOST, DEVICE = "host", "device"
PER_BODY = {"group": PER_BUCKET, "step": "step", "join": "round"}
"""Meaning of one iteration of a Loop, by the name of its body: a bucket (length bucketing), a step of RNNT decoding, or
a round of joining strings. Another Loop or If is Conformer's attention: one block of queries, or all of them."""
SMALL = 100
"""Largest initializer, in numbers, that lets a calculation move to the CPU (onnxruntime's
kSmallInitializerThreshold)."""
SHAPE_READERS = ("Shape", "Size")
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def place(model: onnx.ModelProto, kernels: Kernels) -> Placement:
    """Place the nodes of a graph, with those in bodies of Loop and If, and find the copies.

    Args:
        model: An exported stage.
        kernels: CUDA kernels of the onnxruntime that would load it.

    Raises:
        RepositoryError: Cuda_kernels.json lacks an operator of the graph.
    """
    contrib.register()
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    opsets = {entry.domain: entry.version for entry in inferred.opset_import}
    placement = Placement()
    root = _Scope(inferred.graph, None, PER_BATCH, kernels, opsets)
    root.assign()
    root.collect(placement, {})
    return placement


class _Scope:
    """A graph or the body of a Loop or If: places its nodes, then finds the copies."""

    def __init__(
        self, graph: onnx.GraphProto, outer: _Scope | None, per: str, kernels: Kernels, opsets: Mapping[str, int]
    ) -> None:
        self.outer = outer
        self.per = per
        self.kernels = kernels
        self.opsets = opsets
        self.inputs = [value.name for value in graph.input]
        self.types: dict[str, int] = dict(outer.types) if outer else {}
        self.elements: dict[str, int] = dict(outer.elements) if outer else {}
        self.constants: set[str] = set(outer.constants) if outer else set()
        self._note_types(graph)
        self.nodes, self.same = self._simplify(graph)
        self.outputs = [self.same.get(value.name, value.name) for value in graph.output]
        self.bodies = {
            index: [_Scope(body, self, PER_BODY.get(body.name, PER_BLOCK), kernels, opsets) for body in _bodies(node)]
            for index, node in enumerate(self.nodes)
        }
        self.producers = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self.on_cpu: dict[int, str] = {}
        self.shape_nodes: set[int] = set()

    def _note_types(self, graph: onnx.GraphProto) -> None:
        for value in (*graph.input, *graph.output, *graph.value_info):
            tensor = value.type.tensor_type
            self.types[value.name] = tensor.elem_type
            self.constants.discard(value.name)
            if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                self.elements[value.name] = _product(dim.dim_value for dim in tensor.shape.dim)
        for constant in graph.initializer:
            self.types[constant.name] = constant.data_type
            self.elements[constant.name] = _product(constant.dims)
            self.constants.add(constant.name)

    def _simplify(self, graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], dict[str, str]]:
        """Apply onnxruntime's basic optimizations: the remaining nodes, and the new names of replaced values.

        Constants are folded, Identity is dropped, and equal nodes are merged. An Identity from a graph input to a graph
        output stays, because neither name can go.
        """
        outputs = {value.name for value in graph.output}
        calculated: set[str] = set()
        kept: list[onnx.NodeProto] = []
        same: dict[str, str] = dict(self.outer.same) if self.outer else {}
        known: dict[tuple[Any, ...], onnx.NodeProto] = {}
        shared: dict[bytes, str] = {}
        for constant in graph.initializer:
            if self.elements[constant.name] == 1:
                # Equal numbers become one constant, so that equal calculations with them are recognised.
                name = shared.setdefault(_content(constant), constant.name)
                same[constant.name] = name
        for original in graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            node.input[:] = [same.get(name, name) for name in node.input]
            if node.op_type == "Constant":
                self.constants.update(node.output)
                continue
            if (node.op_type == "Identity" or self._casts_to_its_own_type(node)) and (
                node.output[0] not in outputs or node.input[0] in calculated or node.input[0] in self.constants
            ):
                same[node.output[0]] = node.input[0]
                continue
            if not list(_bodies(node)):
                attributes = tuple(sorted(attribute.SerializeToString() for attribute in node.attribute))
                key = (node.domain, node.op_type, tuple(node.input), len(node.output), attributes)
                twin = known.setdefault(key, node)
                if twin is not node:
                    same.update(zip(node.output, twin.output, strict=True))
                    continue
                known_shape = node.op_type in SHAPE_READERS and node.input[0] in self.elements
                if known_shape or all(name in self.constants for name in node.input if name):
                    self.constants.update(node.output)
                    continue
            kept.append(node)
            calculated.update(node.output)
        return kept, same

    def _casts_to_its_own_type(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "Cast" and self.types[node.input[0]] == self.types[node.output[0]]

    def assign(self) -> None:
        """Place the nodes of the bodies, then those of this graph, as onnxruntime's partitioner does."""
        for bodies in self.bodies.values():
            for body in bodies:
                body.assign()
        for index, node in enumerate(self.nodes):
            why = self.kernels.why_not(node, self.opsets[node.domain], self.types)
            if why is not None:
                self.on_cpu[index] = why
        self._prefer_cpu()

    def _prefer_cpu(self) -> None:
        """Move nodes to the CPU that read only host memory (GetCpuPreferredNodes)."""
        consumers: dict[str, list[int]] = {}
        for index in range(len(self.nodes)):
            for name in self._reads(index):
                consumers.setdefault(name, []).append(index)
        on_host: set[str] = set()
        candidates: set[int] = set()
        for index, node in enumerate(self.nodes):
            if index not in self.on_cpu:
                written = [node.output[output] for output in self.kernels.host_outputs(node)]
                on_host.update(written)
                candidates.update(consumer for name in written for consumer in consumers.get(name, ()))
        visited: set[int] = set()
        while candidates - visited:
            # Nodes are listed in topological order, which onnxruntime follows too.
            index = min(candidates - visited)
            visited.add(index)
            if index not in self.on_cpu:
                if not self._calculates_on_host(self.nodes[index], on_host):
                    continue
                self.on_cpu[index] = "a calculation with shapes"
                self.shape_nodes.add(index)
            outputs = [name for name in self.nodes[index].output if name]
            on_host.update(outputs)
            candidates.update(consumer for name in outputs for consumer in consumers.get(name, ()))

    def _calculates_on_host(self, node: onnx.NodeProto, on_host: set[str]) -> bool:
        for index, name in enumerate(node.input):
            if self.types.get(name) in HALVES:
                return False
            if name in self.inputs or (name in self.constants and self.elements.get(name, 1) <= SMALL):
                continue
            if name not in on_host or index in self.kernels.host_inputs(node):
                return False
        return True

    def _reads(self, index: int) -> set[str]:
        """The values of this graph and of outer graphs that a node or its bodies read."""
        return set(self.nodes[index].input) - {""} | self._reads_inside(index)

    def _reads_inside(self, index: int) -> set[str]:
        return {name for body in self.bodies[index] for name in body.captured()}

    def captured(self) -> set[str]:
        """The values of outer graphs that this graph reads."""
        read = {name for index in range(len(self.nodes)) for name in self._reads(index)} | set(self.outputs)
        # onnxruntime stores constants where they are needed, on both sides if necessary.
        return read - self.constants - set(self.inputs) - set(self.producers)

    def _needed(self) -> tuple[dict[str, int], dict[str, int]]:
        """Values that are read on the device, and values that are read on the host, each with its first reader."""
        on_device: dict[str, int] = {}
        on_host: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            host_inputs = range(len(node.input)) if index in self.on_cpu else self.kernels.host_inputs(node)
            for number, name in enumerate(node.input):
                if name:
                    (on_host if number in host_inputs else on_device).setdefault(name, index)
        return on_device, on_host

    def _is_host_output(self, name: str) -> bool:
        index = self.producers[name]
        node = self.nodes[index]
        return index in self.on_cpu or list(node.output).index(name) in self.kernels.host_outputs(node)

    def collect(self, placement: Placement, fed: Mapping[str, str]) -> None:
        """Add the nodes and copies of this graph and of its bodies to `placement`.

        Args:
            placement: Placement that gets the nodes and copies.
            fed: HOST or DEVICE for each input and captured value of a body, before the body runs.
        """
        for index, node in enumerate(self.nodes):
            why = self.on_cpu.get(index, "")
            shapes = index in self.shape_nodes
            placement.nodes.append(PlacedNode(node.name, node.op_type, self.per, bool(why), why, shapes))
            if not why and self.kernels.waits(node):
                placement.copies.append(Copy(f"a count of {node.name}", True, self.per, node.name, node.op_type))
        on_device, on_host = self._needed()
        where = self._locations(placement, on_device, on_host, fed)
        for index, node in enumerate(self.nodes):
            for body in self.bodies[index]:
                self._enter(placement, index, node, body, where)

    def _locations(
        self, placement: Placement, on_device: Mapping[str, int], on_host: Mapping[str, int], fed: Mapping[str, str]
    ) -> dict[str, str]:
        """Add the copies of this graph. Returns where each value is for the bodies inside."""
        where: dict[str, str] = {}
        for name in self.producers:
            from_host = self._is_host_output(name)
            # A value with a copy on the host keeps its name there; the value on the device is renamed.
            where[name] = HOST if from_host or name in on_host else DEVICE
            if from_host and name in on_device:
                self._copy(placement, name, False, on_device[name])
            if not from_host and name in on_host:
                self._copy(placement, name, True, on_host[name])
        for name in dict.fromkeys([*self.inputs, *sorted(self.captured())]):
            if name in on_device and name in on_host:
                self._copy(placement, name, False, on_device[name])
            needed = HOST if name in on_host else DEVICE if name in on_device else fed.get(name)
            before = fed.get(name)
            if before and needed and before != needed:
                readers = on_host if needed == HOST else on_device
                self._copy(placement, name, needed == HOST, readers[name], at_edge=True)
            where[name] = needed or self._where_only_bodies_read(name)
        return where

    def _where_only_bodies_read(self, name: str) -> str:
        """The place of an input that only bodies read: where their Loops and Ifs run."""
        readers = [index for index in self.bodies if name in self._reads_inside(index)]
        return DEVICE if readers and not any(index in self.on_cpu for index in readers) else HOST

    def _copy(self, placement: Placement, value: str, to_host: bool, index: int, at_edge: bool = False) -> None:
        node = self.nodes[index]
        if self.types.get(value) == TensorProto.STRING and not at_edge:
            refusal = f"{node.name} ({node.op_type}) reads strings on the device, and strings can't be copied there"
            placement.refusals.append(refusal)
        placement.copies.append(Copy(value, to_host, self.per, node.name, node.op_type, at_edge))

    def _enter(
        self, placement: Placement, index: int, node: onnx.NodeProto, body: _Scope, where: Mapping[str, str]
    ) -> None:
        """Add the copies that a Loop or If makes each time its body runs, and those inside its body."""
        at_node = HOST if index in self.on_cpu else DEVICE
        fed = {name: where[name] for name in body.captured() if name in where}
        targets: list[str] = []
        if node.op_type == "Loop":
            # Iteration number and condition are on the host. Carried values are where the Loop runs.
            carried = body.inputs[2:]
            fed |= dict(zip(body.inputs[:2], (HOST, HOST), strict=True)) | dict.fromkeys(carried, at_node)
            targets = [HOST] + [at_node] * (len(body.outputs) - 1)
        else:
            targets = [at_node] * len(body.outputs)
        body.collect(placement, fed)
        on_device, on_host = body._needed()
        for name, target in zip(body.outputs, targets, strict=True):
            if name in body.producers:
                at = HOST if body._is_host_output(name) or name in on_host else DEVICE
            elif name in body.inputs:
                at = HOST if name in on_host else DEVICE if name in on_device else fed.get(name, target)
            else:
                at = fed.get(name, target)
            if at != target:
                placement.copies.append(Copy(name, target == HOST, body.per, node.name, node.op_type, True))


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    return (attribute.g for attribute in node.attribute if attribute.HasField("g"))


def _product(numbers: Iterable[int]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


def _content(tensor: onnx.TensorProto) -> bytes:
    unnamed = onnx.TensorProto()
    unnamed.CopyFrom(tensor)
    unnamed.name = ""
    array = onnx.numpy_helper.to_array(unnamed)
    return bytes(f"{array.dtype} {array.shape} ", "ascii") + array.tobytes()
