"""Replace the large weights of a graph by stand-ins of one number, and draw them again.

A stand-in is an initializer called stand_in.NUMBER, with whatever a graph puts before it, and `.half` behind it in
float16. NUMBER is its place in a JSON list of what it stands for. Exporters transpose weights and fold batch norms
into them, so an entry says that too. The graph has no array of full size, so protobuf's limit of 2 GiB does not matter.
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
from verification.full_size import seeded

NAME = re.compile(r"stand_in\.(\d+)(?:\.half)?$")
TOLERANCE = 1e-4
"""Of a weight's largest number: folding a batch norm may round otherwise than a product of float32."""
STAND_INS = "stand_ins.json"
"""The list of what stand-ins stand for, beside the graph."""

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StandIn:
    """What a stand-in stands for.

    name: of the tensor to draw, see seeded.draw
    shape: of the tensor to draw
    dims: of the weight in the graph
    transposed: whether the weight is the drawn tensor, as a matrix of its rows, transposed
    rows: factors of the drawn tensor's rows (its first axis); empty if all are 1
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[int, ...]
    transposed: bool
    rows: tuple[float, ...]

    def weight(self) -> Float32:
        """float32 [dims]"""
        drawn = seeded.draw(self.name, self.shape).reshape(self.shape[0], -1)
        if self.rows:
            drawn = drawn * np.array(self.rows, np.float32)[:, None]
        return np.ascontiguousarray((drawn.T if self.transposed else drawn).reshape(self.dims))


def strip(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], stand_ins: list[StandIn]) -> onnx.ModelProto:
    """Replace each large float32 weight that is a drawn tensor. Returns the model given, changed.

    Args:
        model: whose graph, and graphs within it, are looked through
        shapes: of the drawn tensors by name
        stand_ins: list that the replaced weights are added to
    """
    tensors = {name: seeded.draw(name, shape) for name, shape in shapes.items()}
    for graph in all_graphs(model.graph):
        for index, tensor in enumerate(graph.initializer):
            if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < seeded.SMALLEST:
                continue
            explanation = _explain(numpy_helper.to_array(tensor), tensors)
            if explanation is not None:
                name = f"stand_in.{len(stand_ins)}"
                stand_ins.append(explanation)
                rename_reads(graph, {tensor.name: name})
                graph.initializer[index].CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), name))
    return model


def fill(model: onnx.ModelProto, entries: Sequence[Mapping[str, Any]]) -> onnx.ModelProto:
    """Put the weights back, in float16 where the stand-in is. Returns the model given, changed.

    entries: of the JSON list, see `entries_of`
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
    """An entry of the JSON list."""
    return StandIn(
        entry["name"], tuple(entry["shape"]), tuple(entry["dims"]), entry["transposed"], tuple(entry["rows"])
    )


def entries_of(stand_ins: Sequence[StandIn]) -> list[dict[str, Any]]:
    """The JSON list."""
    return [asdict(stand_in) for stand_in in stand_ins]


def _explain(weight: Float32, tensors: Mapping[str, Float32]) -> StandIn | None:
    """What the weight stands for, or None if it is none of the drawn tensors."""
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
    """What multiplies each drawn row to give the weight, or None if nothing does; empty if the rows are the weight.

    weight, rows: [rows, numbers per row]
    """
    if np.array_equal(weight, rows):
        return ()
    # The first row tells nearly all other tensors apart, and costs little.
    tolerance = TOLERANCE * float(np.abs(weight[0]).max()) * float(np.abs(rows[0]).max())
    if np.abs(weight[0] * rows[0, 0] - rows[0] * weight[0, 0]).max() > tolerance:
        return None
    # In double precision, and then the nearest of its neighbours: folding a batch norm multiplied by a float32.
    squares = np.square(rows, dtype=np.float64).sum(1)
    estimate = (np.multiply(weight, rows, dtype=np.float64).sum(1) / squares).astype(np.float32)
    factors = estimate
    for neighbour in (np.nextafter(estimate, np.float32(-np.inf)), np.nextafter(estimate, np.float32(np.inf))):
        exact = (rows * neighbour[:, None] == weight).all(1)
        factors = np.where(exact, neighbour, factors)
    if np.abs(weight - rows * factors[:, None]).max() > TOLERANCE * np.abs(weight).max():
        return None
    return tuple(float(factor) for factor in factors)
