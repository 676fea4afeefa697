"""Variants of a recognizer with other batching methods, for benchmark.studies.variants.write_variant."""

from __future__ import annotations

import os

import onnx

from benchmark.studies.variants import Step, each_step
from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.repository.config import THREADS_PARAMETER, item_dims, ragged_shapes
from nemo_triton.contract import Part


def _without_batcher(step: Step) -> None:
    step.config.ClearField("dynamic_batching")


def _encoder_per_core(step: Step) -> None:
    if step.config.name.endswith(Part.ENCODER.value):
        step.config.instance_group[0].count = len(os.sched_getaffinity(0))
        step.config.parameters[THREADS_PARAMETER].string_value = "1"


def _equal_shapes_only(step: Step) -> None:
    step.config.ClearField("batch_input")
    for tensor in step.config.input:
        tensor.allow_ragged_batch = False
    step.graph = _dense(onnx.load(step.graph_file))


without_batcher = each_step(_without_batcher)
"""No batching: every request runs unbatched."""
encoder_per_core = each_step(_encoder_per_core)
"""One encoder per core, with one thread each, as export.py's --encoders and --encoder-threads=1 write it."""
equal_shapes_only = each_step(_equal_shapes_only)
"""No ragged inputs: Triton batches only requests of equal shape, so clients have to pad."""


def _dense(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put dense inputs [B, steps] or [B, steps, width] in front of a graph with ragged inputs."""
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
    outputs = g.append(model, feeds)
    for value in model.graph.output:
        g.output(value.name, outputs[value.name], value.type.tensor_type.elem_type, _dims(value))
    return g.model()


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
