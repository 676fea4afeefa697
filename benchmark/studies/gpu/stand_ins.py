"""Replace the large weights of a graph by placeholders of one number (stand-ins), and generate them again.

A stand-in is an initializer called PREFIXstand_in.NUMBER; in float16, `.half` follows. NUMBER is the index of its entry
in a JSON list. The entry says which drawn tensor to put there, and whether the exporter transposed it or folded a batch
norm into it. The graph has no array of full size, so protobuf's limit of 2 GiB does not matter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from export_scripts.operators.walk import all_graphs, rename_reads
from export_scripts.operators.weights import array_of
from verification.full_size import seeded

NAME = re.compile(r"stand_in\.(\d+)(?:\.half)?$")
TOLERANCE = 1e-4
"""Tolerance relative to a weight's largest number. Folding a batch norm may round differently than a product."""
STAND_INS = "stand_ins.json"
"""The JSON list, in the folder of the graph."""

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StandIn:
    """The weight that a stand-in replaces.

    Attributes:
        name: Name of the tensor to draw, see seeded.draw.
        shape: Shape of the tensor to draw.
        dims: Shape of the weight in the graph.
        transposed: Whether the weight is the drawn tensor, as a matrix of its rows, transposed.
        rows: Factors of the drawn tensor's rows (its first axis); empty if all are 1.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[int, ...]
    transposed: bool
    rows: tuple[float, ...]

    def weight(self) -> Float32:
        """Generate the weight, float32 [dims]."""
        drawn = seeded.draw(self.name, self.shape).reshape(self.shape[0], -1)
        if self.rows:
            drawn = drawn * np.array(self.rows, np.float32)[:, None]
        return np.ascontiguousarray((drawn.T if self.transposed else drawn).reshape(self.dims))


def strip(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], stand_ins: list[StandIn]) -> onnx.ModelProto:
    """Replace each large float32 weight that is a drawn tensor.

    Args:
        model: The model; its graph and the graphs inside it are changed in place.
        shapes: Shapes of the drawn tensors by name.
        stand_ins: List that the replaced weights are appended to.

    Returns:
        The same model.
    """
    tensors = {name: seeded.draw(name, shape) for name, shape in shapes.items()}
    for graph in all_graphs(model.graph):
        for index, tensor in enumerate(graph.initializer):
            if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < seeded.SMALLEST:
                continue
            explanation = _explain(array_of(tensor), tensors)
            if explanation is not None:
                name = f"stand_in.{len(stand_ins)}"
                stand_ins.append(explanation)
                rename_reads(graph, {tensor.name: name})
                graph.initializer[index].CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), name))
    return model


def fill(model: onnx.ModelProto, entries: Sequence[Mapping[str, Any]]) -> onnx.ModelProto:
    """Replace the stand-ins by their weights, in the precision of the stand-in.

    Args:
        model: The model, changed in place.
        entries: The JSON list, see `entries_of`.

    Returns:
        The same model.
    """
    weights: dict[int, Float32] = {}
    for graph in all_graphs(model.graph):
        for index, tensor in enumerate(graph.initializer):
            matched = NAME.search(tensor.name)
            if matched is None:
                continue
            number = int(matched[1])
            if number not in weights:
                weights[number] = read_entry(entries[number]).weight()
            weight = weights[number].astype(numpy_helper.to_array(tensor).dtype)
            graph.initializer[index].CopyFrom(numpy_helper.from_array(weight, tensor.name))
    return model


def read_entry(entry: Mapping[str, Any]) -> StandIn:
    """Read an entry of the JSON list."""
    return StandIn(
        entry["name"], tuple(entry["shape"]), tuple(entry["dims"]), entry["transposed"], tuple(entry["rows"])
    )


def entries_of(stand_ins: Sequence[StandIn]) -> list[dict[str, Any]]:
    """Convert to the JSON list."""
    return [asdict(stand_in) for stand_in in stand_ins]


def _explain(weight: Float32, tensors: Mapping[str, Float32]) -> StandIn | None:
    """Find the drawn tensor that a weight was made from; None if there is none."""
    for name, drawn in tensors.items():
        if drawn.size != weight.size:
            continue
        rows = drawn.reshape(len(drawn), -1)
        layouts = []
        if weight.shape[0] == len(drawn):
            layouts.append((False, weight.reshape(len(drawn), -1)))
        if weight.shape == rows.shape[::-1]:
            layouts.append((True, weight.T))
        for transposed, candidate in layouts:
            factors = _row_factors(candidate, rows)
            if factors is not None:
                return StandIn(name, drawn.shape, weight.shape, transposed, factors)
    return None


def _row_factors(weight: Float32, rows: Float32) -> tuple[float, ...] | None:
    """Find a factor for each drawn row that yields the weight.

    Args:
        weight: float32 [rows, numbers per row].
        rows: Drawn tensor, float32 [rows, numbers per row].

    Returns:
        The factors; empty if all are 1; None if there are none.
    """
    if np.array_equal(weight, rows):
        return ()
    # The first row excludes nearly all other tensors, and is cheap to check.
    tolerance = TOLERANCE * float(np.abs(weight[0]).max()) * float(np.abs(rows[0]).max())
    if np.abs(weight[0] * rows[0, 0] - rows[0] * weight[0, 0]).max() > tolerance:
        return None
    # Folding a batch norm multiplied by a float32. Estimate it in double precision, then try its float32 neighbours.
    squares = np.square(rows, dtype=np.float64).sum(1)
    estimate = (np.multiply(weight, rows, dtype=np.float64).sum(1) / squares).astype(np.float32)
    factors = estimate
    for neighbour in (np.nextafter(estimate, np.float32(-np.inf)), np.nextafter(estimate, np.float32(np.inf))):
        exact = (rows * neighbour[:, None] == weight).all(1)
        factors = np.where(exact, neighbour, factors)
    if np.abs(weight - rows * factors[:, None]).max() > TOLERANCE * np.abs(weight).max():
        return None
    return tuple(float(factor) for factor in factors)
