"""Check that the configurations and graphs of a model repository agree.

    python export_scripts/check.py model_repository

Looks at every model of the repository: types and dims of a configuration against its graph, by the
rules of Triton's onnxruntime backend, and the wiring of ensembles against their steps. Needs neither
NeMo nor a server. Exit code 0 where all agree, 1 where something does not, 2 for a bad argument.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import click
import onnx
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.errors import ExportError
from export_scripts.repository.config import WILDCARD, data_type, dims, read_config

Tensor: TypeAlias = Any
"""triton.ModelInput or triton.ModelOutput, which have no types."""


def check_repository(*folders: Path) -> list[str]:
    """What does not agree, one line each; empty where all does.

    Models of a later folder stand in for those of the same name in earlier ones.
    """
    models = {model.name: model for folder in folders for model in _models(folder)}
    configs: dict[str, triton.ModelConfig] = {}
    problems = []
    for name, model in models.items():
        try:
            configs[name] = read_config(model)
        except ExportError as error:
            problems.append(str(error))
    for name, config in configs.items():
        if config.name not in ("", name):
            problems.append(f"{name}: config.pbtxt names the model '{config.name}'")
        versions = _versions(models[name])
        found = _ensemble(config, configs) if config.platform == "ensemble" else _stage(config, versions)
        problems += [f"{name}: {problem}" for problem in found]
        if not versions:
            problems.append(f"{name}: no version folder, such as {name}/1; without it Triton loads nothing at all")
    return problems


def _models(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _versions(model: Path) -> list[Path]:
    return sorted(path for path in model.iterdir() if path.is_dir() and path.name.isdigit())


def _stage(config: triton.ModelConfig, versions: list[Path]) -> Iterator[str]:
    if config.backend != "onnxruntime" and config.platform != "onnxruntime_onnx":
        return
    for version in versions:
        file = version / (config.default_model_filename or "model.onnx")
        try:
            graph = onnx.load(file, load_external_data=False).graph
        except Exception as error:
            # onnx raises protobuf's errors, which have no common class, besides OSError.
            yield f"{version.name}/{file.name}: {error}"
            continue
        yield from _against_graph(config, graph)


def _against_graph(config: triton.ModelConfig, graph: onnx.GraphProto) -> Iterator[str]:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in constants}
    outputs = {value.name: value for value in graph.output}
    made = [name for entry in config.batch_input for name in entry.target_name]
    for name in sorted(inputs.keys() - {tensor.name for tensor in config.input} - set(made)):
        yield f"the graph's input {name} is not in the configuration"
    for tensor in config.input:
        if tensor.name in inputs:
            yield from _input(tensor, inputs[tensor.name], config.max_batch_size)
        else:
            yield f"input {tensor.name} is not in the graph"
    for name in made:
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


def _agrees(kind: str, tensor: Tensor, value: onnx.ValueInfoProto, max_batch_size: int, exact: bool) -> Iterator[str]:
    own = data_type(value)
    if tensor.data_type != own:
        yield f"{kind} {tensor.name} is {_type(tensor)}, the graph has {triton.DataType.Name(own)}"
    inner = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
    expected = ([WILDCARD] if max_batch_size else []) + inner
    there = dims(value)
    fits = len(expected) == len(there) and all(
        wanted == size or (size == WILDCARD and not exact) for wanted, size in zip(expected, there, strict=True)
    )
    if not fits:
        yield f"{kind} {tensor.name} is {expected} (with the batch), the graph has {there}"


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
                yield f"step {model.name} is not given its input {tensor.name}"
            elif (source := step.input_map[tensor.name]) not in known:
                yield f"step {model.name} takes {source}, which nothing before it makes"
            else:
                yield from _same(known[source], tensor, model.name)
        for mapped, there, kind in ((step.input_map, model.input, "input"), (step.output_map, model.output, "output")):
            for name in sorted(set(mapped) - {tensor.name for tensor in there}):
                yield f"step {model.name} has no {kind} {name}"
        known |= {step.output_map[tensor.name]: tensor for tensor in model.output if tensor.name in step.output_map}
    for tensor in config.output:
        if tensor.name not in known:
            yield f"output {tensor.name} is made by no step"
        else:
            yield from _same(known[tensor.name], tensor, "the ensemble")


def _same(made: Tensor, taken: Tensor, taker: str) -> Iterator[str]:
    wild = (WILDCARD,)
    alike = len(made.dims) == len(taken.dims) and all(
        a == b or a in wild or b in wild for a, b in zip(made.dims, taken.dims, strict=True)
    )
    if made.data_type != taken.data_type or not alike:
        yield (
            f"{made.name} is {_type(made)} {list(made.dims)}, but {taker} has it as {_type(taken)} {list(taken.dims)}"
        )


def _type(tensor: Tensor) -> str:
    return str(triton.DataType.Name(tensor.data_type))


@click.command(help=__doc__)
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(repository: Path) -> None:
    models = _models(repository)
    if not models:
        click.echo(f"error: {repository}: holds no models", err=True)
        sys.exit(2)
    problems = check_repository(repository)
    for problem in problems:
        click.echo(problem)
    if not problems:
        click.echo(f"{len(models)} models agree with their graphs and each other")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
