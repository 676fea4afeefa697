"""Large weights of a graph replaced by stand-ins of one number, and made again from their seeds.

A stand-in is an initializer called stand_in.<number> (with whatever a graph puts before it, and `.half` behind it in
float16). What it stands for is an entry of a JSON list: the seeded tensor, whether it was transposed, and what its rows
were multiplied by, since exporters transpose weights and fold batch norms into them. No array of full size is in the
graph, so that protobuf's limit of 2 GiB is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from benchmark.gpu.seeded import SMALLEST, draw

NAME = re.compile(r"stand_in\.(\d+)(?:\.half)?$")
TOLERANCE = 1e-4
STAND_INS = "stand_ins.json"
"""Beside the graph: the list of what its stand-ins stand for."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StandIn:
    """What a stand-in stands for.

    name, shape: of the tensor to draw, see seeded.draw
    dims: of the weight in the graph
    transposed: whether the two axes of the weight, ones left out, are swapped
    rows: factors of the drawn tensor's rows (its first axis); empty where all are 1
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[int, ...]
    transposed: bool
    rows: tuple[float, ...]

    def weight(self) -> npt.NDArray[np.float32]:
        drawn = draw(self.name, self.shape)
        if self.rows:
            drawn = drawn * np.array(self.rows, np.float32).reshape(-1, *[1] * (drawn.ndim - 1))
        if self.transposed:
            drawn = drawn.reshape(drawn.shape[0], -1).T
        return np.ascontiguousarray(drawn.reshape(self.dims))


def strip(model: onnx.ModelProto, drawn: Mapping[str, Sequence[int]], made: list[StandIn]) -> onnx.ModelProto:
    """The model with each large float32 weight that one of the `drawn` tensors (name: shape) explains replaced.

    What the stand-ins stand for is added to `made`. The model given is changed.
    """
    tensors = {name: draw(name, shape) for name, shape in drawn.items()}
    for graph in _graphs(model.graph):
        for index, tensor in enumerate(graph.initializer):
            if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
                continue
            found = _explain(numpy_helper.to_array(tensor), tensors)
            if found is not None:
                name = f"stand_in.{len(made)}"
                made.append(found)
                _replace(graph, tensor.name, name)
                graph.initializer[index].CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), name))
    return model


def fill(model: onnx.ModelProto, entries: Sequence[Mapping[str, Any]]) -> onnx.ModelProto:
    """The model with the weights back in place, float16 where a stand-in is; the model given is changed."""
    weights: dict[int, npt.NDArray[np.float32]] = {}
    for graph in _graphs(model.graph):
        for index, tensor in enumerate(graph.initializer):
            matched = NAME.search(tensor.name)
            if matched is None:
                continue
            number = int(matched[1])
            if number not in weights:
                weights[number] = read(entries[number]).weight()
            weight = weights[number].astype(numpy_helper.to_array(tensor).dtype)
            graph.initializer[index].CopyFrom(numpy_helper.from_array(weight, tensor.name))
    return model


def read(entry: Mapping[str, Any]) -> StandIn:
    """The entry of a JSON list."""
    return StandIn(
        entry["name"], tuple(entry["shape"]), tuple(entry["dims"]), entry["transposed"], tuple(entry["rows"])
    )


def written(made: Sequence[StandIn]) -> list[dict[str, Any]]:
    """The JSON list."""
    return [asdict(one) for one in made]


def _explain(weight: Array, tensors: Mapping[str, Array]) -> StandIn | None:
    for name, drawn in tensors.items():
        if drawn.size != weight.size:
            continue
        rows = drawn.reshape(len(drawn), -1)
        for transposed in (False, True):
            if np.squeeze(weight).ndim > 2 and transposed:
                continue
            if transposed:
                if weight.ndim != 2 or weight.shape != rows.shape[::-1]:
                    continue
                found = weight.T
            else:
                if weight.shape[0] != len(drawn):
                    continue
                found = weight.reshape(len(drawn), -1)
            # One column tells most of the others apart from it.
            if not np.allclose(found[0] * rows[0, 0], rows[0] * found[0, 0], rtol=0, atol=TOLERANCE * _size(found, rows)):
                continue
            factors = (found * rows).sum(1) / (rows * rows).sum(1)
            if np.abs(found - rows * factors[:, None]).max() > TOLERANCE * np.abs(found).max():
                continue
            alike = np.allclose(factors, 1, rtol=0, atol=1e-6)
            kept = () if alike else tuple(float(np.float32(factor)) for factor in factors)
            return StandIn(name, drawn.shape, weight.shape, transposed, kept)
    return None


def _size(found: Array, rows: Array) -> float:
    return float(np.abs(found[0]).max() * np.abs(rows[0]).max())


def _replace(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a value wherever the graph, and graphs within it, read it."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _replace(attribute.g, old, new)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
