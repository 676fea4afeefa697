"""Graphs with ragged inputs, made to read padded batches."""

from __future__ import annotations

import onnx

from export_scripts.operators.builder import Graph, Value, ints
from export_scripts.repository.config import item_dims, ragged_shapes


def dense(model: onnx.ModelProto) -> onnx.ModelProto:
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
