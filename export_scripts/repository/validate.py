"""Check that the configurations and graphs of a model repository agree.

Compares types and dims of each configuration with its graph, by the rules of Triton's onnxruntime backend, and the
wiring of ensembles with their steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import onnx
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.errors import ExportError
from export_scripts.operators.weights import damage
from export_scripts.repository.config import WILDCARD, data_type, dims, read_config

Tensor: TypeAlias = Any
"""triton.ModelInput or triton.ModelOutput, which have no type annotations."""


def check_repository(*folders: Path, contents: bool = False) -> list[str]:
    """Compare configurations, graphs and ensembles with each other.

    Args:
        folders: Model repositories. Models of later ones replace those of the same name in earlier ones.
        contents: Whether to compare files of weights with their checksums, which reads all of them.

    Returns:
        One line per problem.
    """
    models = {model.name: model for folder in folders for model in models_in(folder)}
    configs: dict[str, triton.ModelConfig] = {}
    problems = []
    for name, model in models.items():
        try:
            configs[name] = read_config(model)
        except ExportError as error:
            problems.append(str(error))
    for name, config in configs.items():
        if config.name not in ("", name):
            problems.append(f"{name}: config.pbtxt names the model '{config.name}'; rename the folder or the model")
        versions = _versions(models[name])
        disagreements = (
            _ensemble(config, configs) if config.platform == "ensemble" else _stage(config, versions, contents)
        )
        problems += [f"{name}: {problem}" for problem in disagreements]
        if not versions:
            problems.append(f"{name}: no version folder; add {name}/1, or Triton doesn't start")
    return problems


def models_in(folder: Path) -> list[Path]:
    """The folders of a repository's models."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _versions(model: Path) -> list[Path]:
    return sorted(path for path in model.iterdir() if path.is_dir() and path.name.isdigit())


def _stage(config: triton.ModelConfig, versions: list[Path], contents: bool) -> Iterator[str]:
    if config.backend != "onnxruntime" and config.platform != "onnxruntime_onnx":
        return
    for version in versions:
        file = version / (config.default_model_filename or "model.onnx")
        if file.is_dir():
            # Triton's layout for graphs with external data.
            file /= "model.onnx"
        try:
            model = onnx.load(file, load_external_data=False)
        except Exception as error:
            # onnx raises OSError and protobuf's errors, which have no common class.
            yield f"{file.relative_to(version.parent)}: {error}"
            continue
        for problem in damage(model, file, contents=contents):
            yield f"{file.relative_to(version.parent)}: {problem}"
        yield from _against_graph(config, model.graph)


def _against_graph(config: triton.ModelConfig, graph: onnx.GraphProto) -> Iterator[str]:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in constants}
    outputs = {value.name: value for value in graph.output}
    batch_inputs = [name for entry in config.batch_input for name in entry.target_name]
    for name in sorted(inputs.keys() - {tensor.name for tensor in config.input} - set(batch_inputs)):
        yield f"the graph's input {name} is not in the configuration"
    for tensor in config.input:
        if tensor.name in inputs:
            yield from _input(tensor, inputs[tensor.name], config.max_batch_size)
        else:
            yield f"input {tensor.name} is not in the graph"
    for name in batch_inputs:
        if name not in inputs:
            yield f"batch_input {name} is not in the graph"
    for entry in config.batch_input:
        if entry.data_type not in (triton.TYPE_INT32, triton.TYPE_FP32):
            yield f"batch_input {', '.join(entry.target_name)} has type {_type(entry)}; Triton has only INT32 and FP32"
    for tensor in config.output:
        if tensor.name in outputs:
            yield from _agrees("output", tensor, outputs[tensor.name], config.max_batch_size, exact=True)
        else:
            yield f"output {tensor.name} is not in the graph"


def _input(tensor: triton.ModelInput, value: onnx.ValueInfoProto, max_batch_size: int) -> Iterator[str]:
    if not tensor.allow_ragged_batch:
        yield from _agrees("input", tensor, value, max_batch_size, exact=False)
    elif dims(value) != [WILDCARD]:
        yield f"ragged input {tensor.name} must be [-1] in the graph, it is {dims(value)}"
    elif data_type(value) != tensor.data_type:
        yield f"input {tensor.name} is {_type(tensor)}, the graph has {triton.DataType.Name(data_type(value))}"


def _agrees(
    kind: str, tensor: Tensor, value: onnx.ValueInfoProto, max_batch_size: int, *, exact: bool
) -> Iterator[str]:
    graph_type = data_type(value)
    if tensor.data_type != graph_type:
        yield f"{kind} {tensor.name} is {_type(tensor)}, the graph has {triton.DataType.Name(graph_type)}"
    inner = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
    expected = ([WILDCARD] if max_batch_size else []) + inner
    graph_dims = dims(value)
    fits = len(expected) == len(graph_dims) and all(
        wanted == size or (size == WILDCARD and not exact) for wanted, size in zip(expected, graph_dims, strict=True)
    )
    if not fits:
        yield f"{kind} {tensor.name} is {expected} (with the batch), the graph has {graph_dims}"


def _ensemble(config: triton.ModelConfig, configs: dict[str, triton.ModelConfig]) -> Iterator[str]:
    known: dict[str, Tensor] = {tensor.name: tensor for tensor in config.input}
    for step in config.ensemble_scheduling.step:
        if step.model_name not in configs:
            yield f"step {step.model_name} is not in the repository"
            continue
        model = configs[step.model_name]
        if config.max_batch_size > model.max_batch_size:
            yield f"max_batch_size {config.max_batch_size} is more than the {model.max_batch_size} of {model.name}"
        for tensor in model.input:
            if tensor.name not in step.input_map:
                yield f"step {model.name} gets no input {tensor.name}"
            elif (source := step.input_map[tensor.name]) not in known:
                yield f"step {model.name} takes {source}, which no earlier step outputs"
            else:
                yield from _same(known[source], tensor, model.name)
        maps = ((step.input_map, model.input, "input"), (step.output_map, model.output, "output"))
        for mapped, tensors, kind in maps:
            for name in sorted(set(mapped) - {tensor.name for tensor in tensors}):
                yield f"step {model.name} has no {kind} {name}"
        known |= {step.output_map[tensor.name]: tensor for tensor in model.output if tensor.name in step.output_map}
    for tensor in config.output:
        if tensor.name not in known:
            yield f"output {tensor.name} is not an output of any step"
        else:
            yield from _same(known[tensor.name], tensor, "the ensemble")


def _same(source: Tensor, target: Tensor, owner: str) -> Iterator[str]:
    alike = len(source.dims) == len(target.dims) and all(
        size == other or WILDCARD in (size, other) for size, other in zip(source.dims, target.dims, strict=True)
    )
    if source.data_type != target.data_type or not alike:
        yield (
            f"{source.name} is {_type(source)} {list(source.dims)}, but {owner} has it as {_type(target)} "
            f"{list(target.dims)}"
        )


def _type(tensor: Tensor) -> str:
    return str(triton.DataType.Name(tensor.data_type))
