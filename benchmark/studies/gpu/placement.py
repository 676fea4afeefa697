"""Which nodes of exported graphs onnxruntime leaves on the CPU of a GPU instance, and what is copied because of it.

    python -m benchmark.studies.gpu.placement model_repository --model coffee_ctc

Needs no GPU. `cuda_kernels.json` has the kernels of onnxruntime's CUDA execution provider, and this module follows the
rules by which onnxruntime places nodes and copies values:

- no kernel for an operator, its version or its types: the CPU (core/framework/kernel_registry.cc)
- calculations with shapes, which are in host memory anyway: the CPU (GetCpuPreferredNodes in
  core/framework/fallback_cpu_capability.cc)
- a value that is needed where it is not: a copy (core/optimizer/transformer_memcpy.cc; at the edges of a Loop's body
  core/providers/cpu/controlflow/loop.cc, once per iteration)

A copy to the device is queued and costs little. A copy to the host makes the host wait until the GPU has done all that
was queued before, and the GPU then waits for new work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import click
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, defs
from rich.table import Table
from tritonclient.grpc import model_config_pb2 as triton

from benchmark.core.models import RepositoryError, read_models
from export_scripts.repository.config import read_config
from nemo_triton.terminal import options as cli

KERNELS = Path(__file__).parent / "cuda_kernels.json"
HOST, DEVICE = "host", "device"
PER_BATCH, PER_GROUP, PER_BLOCK = "batch", "group", "block"
PER_BODY = {"group": PER_GROUP, "step": "step", "join": "round"}
"""What one iteration of a Loop is, by the name of its body: a group of similar length (graphs/groups.py), a step of
RNNT decoding (graphs/rnnt.py), a round of joining strings (graphs/text.py). A Loop without a name of ours is
Conformer's attention, and an iteration a block of queries (graphs/attention.py)."""
SMALL = 100
"""onnxruntime moves a calculation with an initializer of up to so many numbers to the CPU
(kSmallInitializerThreshold)."""
SHAPE_READERS = ("Shape", "Size")
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
TYPE_NAMES = {number: name.lower() for name, number in TensorProto.DataType.items()}
"""A type's name in cuda_kernels.json."""


@dataclass(frozen=True)
class Kernels:
    """The CUDA kernels of one release of onnxruntime, by operator.

    release: onnxruntime's version
    operators: entries of cuda_kernels.json
    """

    release: str
    operators: Mapping[str, Any]

    def why_not(self, node: onnx.NodeProto, opset: int, types: Mapping[str, int]) -> str | None:
        """Why no kernel serves the node, or None if one does.

        Args:
            node: with an operator of cuda_kernels.json
            opset: of the node's domain
            types: element type of each value

        Raises:
            RepositoryError: for an operator that cuda_kernels.json does not have.
        """
        schema = defs.get_schema(node.op_type, opset, node.domain)
        kernels = [kernel for kernel in self._entry(node)["kernels"] if self.release in kernel["releases"]]
        version = schema.since_version
        # VerifyVersion: a kernel without a last version serves the version that it was written for, and no later one.
        serving = [
            kernel
            for kernel in kernels
            if kernel["since"] == version or kernel["since"] <= version <= (kernel["until"] or 0)
        ]
        if not serving:
            return f"no kernel for version {version}" if kernels else "no kernel"
        for kernel in serving:
            unserved = _unserved_type(node, schema, kernel["types"], types)
            if unserved is None:
                return None
        return f"no kernel for {unserved}"

    def host_inputs(self, node: onnx.NodeProto) -> Sequence[int]:
        """Places of the inputs that the kernel reads on the host."""
        return tuple(self._entry(node).get("host_inputs", ()))

    def host_outputs(self, node: onnx.NodeProto) -> Sequence[int]:
        """Places of the outputs that the kernel writes on the host."""
        return tuple(self._entry(node).get("host_outputs", ()))

    def waits(self, node: onnx.NodeProto) -> bool:
        """Whether the kernel itself waits for the GPU."""
        return bool(self._entry(node).get("waits", False))

    def _entry(self, node: onnx.NodeProto) -> Any:
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if name not in self.operators:
            raise RepositoryError(f"{node.name}: {KERNELS.name} lacks the operator {name}; add it")
        return self.operators[name]


def _unserved_type(
    node: onnx.NodeProto, schema: defs.OpSchema, allowed: Mapping[str, str], types: Mapping[str, int]
) -> str | None:
    """A type of the node's that a kernel does not have; onnxruntime looks at the first value of each constraint."""
    for constraint, names in allowed.items():
        for formals, values in ((schema.inputs, node.input), (schema.outputs, node.output)):
            given = [
                value for formal, value in zip(formals, values, strict=False) if formal.type_str == constraint and value
            ]
            if given:
                name: str = TYPE_NAMES[types[given[0]]]
                if name not in names.split():
                    return name
                break
    return None


@cache
def _published() -> Any:
    return json.loads(KERNELS.read_text(encoding="utf-8"))


def known_releases() -> list[str]:
    """The versions of onnxruntime that cuda_kernels.json has, the oldest first."""
    return list(_published()["releases"])


def read_kernels(release: str) -> Kernels:
    """The kernels of a version of onnxruntime, one of `known_releases`."""
    return Kernels(release, _published()["kernels"])


@dataclass(frozen=True)
class PlacedNode:
    """A node and where it runs.

    per: how often it runs, such as PER_GROUP
    why: the reason if it runs on the CPU, else empty
    shapes: whether it only calculates with shapes, on the CPU because they are there
    """

    name: str
    operator: str
    per: str
    on_cpu: bool
    why: str = ""
    shapes: bool = False


@dataclass(frozen=True)
class Copy:
    """A value that moves between host and device.

    to_host: a wait for the GPU; otherwise a copy to the device
    per: how often, such as PER_GROUP
    name, operator: of the node that needs it, or of the Loop that takes it
    at_edge: whether it is copied as the body of a Loop or If begins or ends, and not by a Memcpy node
    """

    value: str
    to_host: bool
    per: str
    name: str
    operator: str
    at_edge: bool = False


@dataclass
class Placement:
    """What onnxruntime does with a graph on a GPU.

    nodes: without those that onnxruntime folds into constants, merges or drops before it places the rest
    copies: without the graph's own inputs and outputs, which come from and go to requests
    refusals: why onnxruntime does not load the graph, empty if it does
    """

    nodes: list[PlacedNode] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def count(self, to_host: bool, per: str) -> int:
        """How many copies in that direction there are each time."""
        return sum(copy.to_host == to_host and copy.per == per for copy in self.copies)

    def often(self) -> list[str]:
        """How often its nodes run, outermost first."""
        return list(dict.fromkeys(node.per for node in self.nodes))


def place(model: onnx.ModelProto, kernels: Kernels) -> Placement:
    """Where onnxruntime runs each node of a graph, bodies of Loop and If included, and what it copies.

    Args:
        model: an exported stage
        kernels: of the onnxruntime that would load it

    Raises:
        RepositoryError: for an operator that cuda_kernels.json does not have.
    """
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    opsets = {entry.domain: entry.version for entry in inferred.opset_import}
    placement = Placement()
    root = _Scope(inferred.graph, None, PER_BATCH, kernels, opsets)
    root.assign()
    root.collect(placement, {})
    return placement


class _Scope:
    """A graph or the body of a Loop or If: places its nodes, then finds what has to be copied."""

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
        """The nodes that are left after onnxruntime's basic optimizations, and values that became others.

        Constants are folded, Identity is dropped, and of nodes that calculate the same one is kept. An Identity from
        what the graph is given to what it gives stays, since neither name can go.
        """
        outputs = {value.name for value in graph.output}
        calculated: set[str] = set()
        kept: list[onnx.NodeProto] = []
        same: dict[str, str] = dict(self.outer.same) if self.outer else {}
        known: dict[tuple[Any, ...], onnx.NodeProto] = {}
        shared: dict[bytes, str] = {}
        for constant in graph.initializer:
            if self.elements[constant.name] == 1:
                # Equal numbers are one constant, so that equal calculations with them are found.
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
        """Place the nodes of the bodies, then of this graph, as onnxruntime's partitioner does."""
        for bodies in self.bodies.values():
            for body in bodies:
                body.assign()
        for index, node in enumerate(self.nodes):
            why = self.kernels.why_not(node, self.opsets[node.domain], self.types)
            if why is not None:
                self.on_cpu[index] = why
        self._prefer_cpu()

    def _prefer_cpu(self) -> None:
        """Move to the CPU what calculates from host memory alone (GetCpuPreferredNodes)."""
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
            # Nodes are listed in an order in which they can run, which is the one that onnxruntime takes them in.
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
        """The values of this graph and those around it that a node or its bodies read."""
        return set(self.nodes[index].input) - {""} | self._reads_inside(index)

    def _reads_inside(self, index: int) -> set[str]:
        return {name for body in self.bodies[index] for name in body.captured()}

    def captured(self) -> set[str]:
        """The values of graphs around this one that it reads."""
        read = {name for index in range(len(self.nodes)) for name in self._reads(index)} | set(self.outputs)
        # Constants are stored where they are needed, twice if they have to be.
        return read - self.constants - set(self.inputs) - set(self.producers)

    def _needed(self) -> tuple[dict[str, int], dict[str, int]]:
        """The values that are read on the device and those read on the host, each with the first node that does."""
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
        """Add nodes and copies of this graph and of its bodies.

        Args:
            placement: to add to
            fed: where each input of a body, and each value that it captures, is before the body runs
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
        """Where each value is for the bodies within, once the copies of this graph are added."""
        where: dict[str, str] = {}
        for name in self.producers:
            from_host = self._is_host_output(name)
            # A value with a copy on the host keeps its name there; the one on the device gets another.
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
        """An input that only bodies read is where the Loops and Ifs that have them run."""
        readers = [index for index in self.bodies if name in self._reads_inside(index)]
        return DEVICE if readers and not any(index in self.on_cpu for index in readers) else HOST

    def _copy(self, placement: Placement, value: str, to_host: bool, index: int, at_edge: bool = False) -> None:
        node = self.nodes[index]
        if self.types.get(value) == TensorProto.STRING and not at_edge:
            refusal = f"{node.name} ({node.op_type}) takes strings on the device, and no string can be copied there"
            placement.refusals.append(refusal)
        placement.copies.append(Copy(value, to_host, self.per, node.name, node.op_type, at_edge))

    def _enter(
        self, placement: Placement, index: int, node: onnx.NodeProto, body: _Scope, where: Mapping[str, str]
    ) -> None:
        """Add what a Loop or If copies each time its body runs, and what its body has."""
        at_node = HOST if index in self.on_cpu else DEVICE
        fed = {name: where[name] for name in body.captured() if name in where}
        wanted: list[str] = []
        if node.op_type == "Loop":
            # The iteration's number and the condition are the host's; what is carried is where the Loop has it.
            carried = body.inputs[2:]
            fed |= dict(zip(body.inputs[:2], (HOST, HOST), strict=True)) | dict.fromkeys(carried, at_node)
            wanted = [HOST] + [at_node] * (len(body.outputs) - 1)
        else:
            wanted = [at_node] * len(body.outputs)
        body.collect(placement, fed)
        on_device, on_host = body._needed()
        for name, target in zip(body.outputs, wanted, strict=True):
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


@dataclass(frozen=True)
class PlacedStage:
    """A stage of a repository and its placement.

    on_gpu: whether its configuration puts it on a GPU where there is one
    """

    name: str
    on_gpu: bool
    placement: Placement


def place_stages(repository: Path, patterns: Sequence[str], kernels: Kernels) -> list[PlacedStage]:
    """Place the stages of recognizers, each stage once.

    Args:
        repository: a model repository
        patterns: names of recognizers, or patterns such as coffee_*; all recognizers if empty
        kernels: of the onnxruntime that would serve it

    Raises:
        RepositoryError: if no recognizer fits a pattern, or a graph is unreadable.
    """
    models = [model.name for model in read_models(repository)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in models):
            raise RepositoryError(f"{pattern}: fits no model in {repository}, which has {', '.join(models)}")
    chosen = [name for name in models if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]
    steps = [step.model_name for name in chosen for step in read_config(repository / name).ensemble_scheduling.step]
    return [_place_stage(repository, name, kernels) for name in dict.fromkeys(steps)]


def _place_stage(repository: Path, name: str, kernels: Kernels) -> PlacedStage:
    file = repository / name / "1" / "model.onnx"
    try:
        model = onnx.load(file)
    except (OSError, DecodeError) as error:
        raise RepositoryError(f"{file}: not readable as an ONNX graph; export the model again") from error
    config = read_config(repository / name)
    on_gpu = config.instance_group[0].kind != triton.ModelInstanceGroup.KIND_CPU
    return PlacedStage(name, on_gpu, place(model, kernels))


@click.command()
@click.argument("repository", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option(
    "--model",
    "patterns",
    multiple=True,
    metavar="NAME",
    help="A recognizer of the repository, or a pattern; may be given again.  [default: all]",
)
@click.option(
    "--onnxruntime",
    "release",
    type=click.Choice(known_releases()),
    default=known_releases()[0],
    show_default=True,
    help="The version whose CUDA kernels to use: 1.19.2 is in NVIDIA's Triton container 24.10.",
)
@click.option(
    "--nodes", "list_nodes", is_flag=True, help="Also list the nodes on the CPU and the copies, one per line."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=cli.check_output,
    help="Also write all nodes and copies to this file.",
)
def placement(
    repository: Path, patterns: tuple[str, ...], release: str, list_nodes: bool, json_file: Path | None
) -> int:
    """Show which nodes of exported stages stay on the CPU of a GPU instance, and what is copied because of it.

    Needs no GPU: it follows onnxruntime's rules. For a copy to the host, the host waits for the GPU. The inputs and
    outputs of a stage are not counted.
    """
    stages = place_stages(repository, patterns, read_kernels(release))
    console = cli.console()
    console.print(_table(stages, release))
    for stage in stages:
        for refusal in dict.fromkeys(stage.placement.refusals):
            click.echo(f"{stage.name}: does not load on a GPU: {refusal}")
    if list_nodes:
        for line in _lines(stages):
            click.echo(line)
    if json_file is not None:
        json_file.write_text(json.dumps(_json(stages, release), indent=1) + "\n", encoding="utf-8")
    return cli.EXIT_OK


def _table(stages: Sequence[PlacedStage], release: str) -> Table:
    table = Table(
        "stage", "configured for", "runs per", title=f"on a GPU by onnxruntime {release}", title_justify="left"
    )
    for heading in ("nodes", "on the CPU", "of them shapes", "copies to the GPU", "copies to the host (waits)"):
        table.add_column(heading, justify="right")
    for stage in stages:
        title = (stage.name, "GPU" if stage.on_gpu else "CPU")
        for per in stage.placement.often():
            nodes = [node for node in stage.placement.nodes if node.per == per]
            counts = (
                len(nodes),
                sum(node.on_cpu for node in nodes),
                sum(node.shapes for node in nodes),
                stage.placement.count(False, per),
                stage.placement.count(True, per),
            )
            table.add_row(*title, per, *map(str, counts))
            title = ("", "")
    return table


def _lines(stages: Sequence[PlacedStage]) -> Iterator[str]:
    """One line for each node on the CPU that is not there for its shapes, and for each copy."""
    for stage in stages:
        for node in stage.placement.nodes:
            if node.on_cpu and not node.shapes:
                yield f"{stage.name}: per {node.per}: {node.operator} {node.name} on the CPU: {node.why}"
        for copy in sorted(
            stage.placement.copies, key=lambda copy: (copy.to_host, stage.placement.often().index(copy.per))
        ):
            direction = "to the host" if copy.to_host else "to the GPU"
            yield f"{stage.name}: per {copy.per}: {copy.value} {direction} for {copy.operator} {copy.name}"


def _json(stages: Sequence[PlacedStage], release: str) -> dict[str, Any]:
    return {
        "onnxruntime": release,
        "stages": {stage.name: {"on_gpu": stage.on_gpu, **asdict(stage.placement)} for stage in stages},
    }


if __name__ == "__main__":
    cli.run(placement)
