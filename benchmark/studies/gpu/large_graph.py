"""Write graphs that may exceed protobuf's limit of 2 GiB per file."""

from __future__ import annotations

from pathlib import Path

import onnx

from export_scripts.operators.walk import all_graphs

LARGEST_FILE = 1_900_000_000
"""Largest size of the weights in an ONNX file, in bytes. Larger graphs have external data."""
SMALLEST_EXTERNAL = 1 << 16
"""Smallest weight that becomes external data, in bytes."""


def write_graph(model: onnx.ModelProto, file: Path) -> None:
    """Write a graph, with external data if it is too large for one file. May change the model."""
    size = sum(len(tensor.raw_data) for graph in all_graphs(model.graph) for tensor in graph.initializer)
    external = size > LARGEST_FILE
    location = f"{file.name}.data"
    onnx.save(model, file, save_as_external_data=external, location=location, size_threshold=SMALLEST_EXTERNAL)
