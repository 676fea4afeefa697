"""Change the Tuning of an exported encoder, to measure it with several settings of length bucketing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export_scripts.errors import ExportError
from export_scripts.operators.bucketing import PASS_STEPS, STEPS_AT_ONCE
from export_scripts.operators.tuning import GPU, TUNINGS
from export_scripts.operators.walk import all_graphs

SCORES_AT_ONCE = "scores_at_once"
FRAME_RATE = 100
"""Frames per second of an encoder's input."""
EVERYTHING = 10**6
"""Seconds, more than any batch has."""


@dataclass(frozen=True)
class Cut:
    """A setting of length bucketing.

    Attributes:
        name: Name in results and for --cut.
        pass_seconds: Cost of a pass in seconds of audio.
        seconds_at_once: Seconds of audio per pass at most.
        scores_at_once: Attention scores per block at most.
    """

    name: str
    pass_seconds: float
    seconds_at_once: float = GPU.seconds_at_once
    scores_at_once: int = GPU.scores_at_once

    def constants(self) -> dict[str, int]:
        """Numbers of the graph by name."""
        return {
            PASS_STEPS: round(self.pass_seconds * FRAME_RATE),
            STEPS_AT_ONCE: round(self.seconds_at_once * FRAME_RATE),
            SCORES_AT_ONCE: self.scores_at_once,
        }


ONE_BUCKET = Cut("one bucket", EVERYTHING, EVERYTHING)
CUTS = (
    ONE_BUCKET,
    Cut("pass 300 s", 300),
    Cut("pass 150 s", 150),
    Cut("pass 100 s", 100),
    Cut("pass 30 s", 30),
    Cut("pass 10 s", 10),
    Cut("pass 1 s", 1),
    Cut("one bucket, small attention blocks", EVERYTHING, EVERYTHING, 1 << 23),
)


def apply_cut(model: onnx.ModelProto, cut: Cut) -> None:
    """Write a cut's numbers into an encoder, also into its loops.

    Args:
        model: The encoder; changed in place.
        cut: The numbers.

    Raises:
        ExportError: The graph has no such numbers.
    """
    constants = cut.constants()
    replaced: set[str] = set()
    for graph in all_graphs(model.graph):
        for tensor in (*graph.initializer, *_constants(graph)):
            name = _name(tensor)
            if name is not None:
                replaced.add(name)
                value = np.full(tuple(tensor.dims), constants[name], np.int64)
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    if not replaced >= {PASS_STEPS, STEPS_AT_ONCE}:
        raise ExportError("the encoder's graph has no named constants for length bucketing; export the model again")


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    return (node.attribute[0].t for node in graph.node if node.op_type == "Constant")


def _name(tensor: onnx.TensorProto) -> str | None:
    """The name in Cut.constants of the number that a constant holds; None if it is another constant."""
    name = next((name for name in (PASS_STEPS, STEPS_AT_ONCE) if f".{name}." in tensor.name), None)
    return SCORES_AT_ONCE if name is None and _is_scores(tensor) else name


def _is_scores(tensor: onnx.TensorProto) -> bool:
    """Whether it is a value of scores_at_once, which has no name in a graph."""
    if tensor.data_type != TensorProto.INT64 or list(tensor.dims) not in ([], [1]):
        return False
    return int(numpy_helper.to_array(tensor).reshape(-1)[0]) in {tuning.scores_at_once for tuning in TUNINGS.values()}
