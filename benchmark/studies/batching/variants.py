"""The same models configured in other ways, to be served beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.repository.config import THREADS_PARAMETER, item_dims, ragged_shapes, read_config
from export_scripts.repository.publish import write_model

Change = Callable[[triton.ModelConfig, onnx.ModelProto], onnx.ModelProto]
"""Changes the configuration in place, and returns the graph to serve."""


def write_variant(repository: Path, model: str, folder: Path, change: Change) -> None:
    """Write the ensemble `model` and its steps into `folder`, every step changed."""
    ensemble = read_config(repository / model)
    write_model(folder, ensemble, graph=None)
    for step in ensemble.ensemble_scheduling.step:
        config = read_config(repository / step.model_name)
        graph = change(config, onnx.load(repository / step.model_name / "1" / "model.onnx"))
        write_model(folder, config, graph)


def without_batcher(config: triton.ModelConfig, graph: onnx.ModelProto) -> onnx.ModelProto:
    """Every request runs alone."""
    config.ClearField("dynamic_batching")
    return graph


def an_encoder_a_core(config: triton.ModelConfig, graph: onnx.ModelProto) -> onnx.ModelProto:
    """What export's --encoders and --encoder-threads=1 write."""
    if config.name.endswith("_encoder"):
        config.instance_group[0].count = len(os.sched_getaffinity(0))
        config.parameters[THREADS_PARAMETER].string_value = "1"
    return graph


def equal_shapes_only(config: triton.ModelConfig, graph: onnx.ModelProto) -> onnx.ModelProto:
    """Without ragged inputs: Triton batches requests of one shape, and clients have to pad."""
    config.ClearField("batch_input")
    for tensor in config.input:
        tensor.allow_ragged_batch = False
    return _dense(graph)


def _dense(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph behind inputs [B, steps] or [B, steps, width], which are laid end to end inside it."""
    g = Graph("dense")
    items, shapes = item_dims(model), ragged_shapes(model)
    feeds: dict[str, Value] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type.elem_type
        if value.name in shapes:
            source = shapes[value.name]
            shape = g.Cast(g.Shape(source), to=kind)
            item = g.Slice(shape, ints(1), ints(1 + len(items[source])))
            feeds[value.name] = g.Expand(g.Unsqueeze(item, ints(0)), g.Concat(g.Shape(source, end=1), ints(1), axis=0))
        elif value.name in items:
            dims = [dim if dim > 0 else f"{value.name}_steps" for dim in items[value.name]]
            g.input(value.name, kind, ["items", *dims])
            feeds[value.name] = g.Reshape(value.name, ints(-1))
        else:
            feeds[value.name] = g.input(value.name, kind, _dims(value))
    made = g.append(model, feeds)
    for value in model.graph.output:
        g.output(value.name, made[value.name], value.type.tensor_type.elem_type, _dims(value))
    return g.model()


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
