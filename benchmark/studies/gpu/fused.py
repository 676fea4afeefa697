"""One graph from samples to labels, so that only one process uses the GPU.

Served on an H200, features of 5 requests took 7 ms; in one process, those of 32 take 3.4 ms (docs/gpu.md). The server's
processes take turns on the GPU and pass tensors through the CPU's memory. This variant shows what that costs.
"""

from __future__ import annotations

import onnx

from benchmark.studies.dense import dense
from export_scripts.operators.builder import Graph


def fuse(features: onnx.ModelProto, encoder: onnx.ModelProto) -> onnx.ModelProto:
    """Join the graphs of a feature stage and of an encoder; the result has the inputs of the first.

    Args:
        features: Graph SAMPLES int16 (ragged) -> FEATURES, FEATURES_LENGTH.
        encoder: Graph FEATURES float32 (ragged) -> the outputs of the result.
    """
    g = Graph("encoder")
    g.metadata = {entry.key: entry.value for entry in features.metadata_props}
    g.inputs.extend(features.graph.input)
    computed = g.append(features, {value.name: value.name for value in features.graph.input})
    results = g.append(dense(encoder), computed)
    for output in encoder.graph.output:
        g.nodes.append(onnx.helper.make_node("Identity", [results[output.name].name], [output.name]))
        g.outputs.append(output)
    return g.model()
