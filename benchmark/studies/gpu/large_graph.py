"""Write graphs that may be too large for one file."""

from __future__ import annotations

from pathlib import Path

import onnx

from export_scripts.operators.walk import all_graphs

LARGEST_FILE = 1_900_000_000
"""Bytes of weights in one ONNX file; protobuf reads at most 2 GiB, so more go beside it."""
SMALLEST_BESIDE = 1 << 16
"""Bytes of the smallest weight that goes beside a file."""


def write_graph(model: onnx.ModelProto, file: Path) -> None:
    """Write a graph, with its weights beside it where they are too many for one file. The model may be changed."""
    size = sum(len(tensor.raw_data) for graph in all_graphs(model.graph) for tensor in graph.initializer)
    beside = size > LARGEST_FILE
    onnx.save(model, file, save_as_external_data=beside, location=f"{file.name}.data", size_threshold=SMALLEST_BESIDE)
