"""Turn the Tuning of an exported encoder into inputs of its graph, to measure one graph with several settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export_scripts.errors import ExportError
from export_scripts.operators.bucketing import PASS_STEPS, STEPS_AT_ONCE
from export_scripts.operators.tuning import GPU, TUNINGS
from export_scripts.operators.walk import rename_reads

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

    def feeds(self) -> dict[str, npt.NDArray[np.int64]]:
        """Values of the inputs that `tune_by_inputs` adds: int64 [1], [1] and []."""
        return {
            PASS_STEPS: np.array([round(self.pass_seconds * FRAME_RATE)], np.int64),
            STEPS_AT_ONCE: np.array([round(self.seconds_at_once * FRAME_RATE)], np.int64),
            SCORES_AT_ONCE: np.array(self.scores_at_once, np.int64),
        }


ONE_BUCKET = Cut("one bucket", EVERYTHING, EVERYTHING)
CUTS = (
    ONE_BUCKET,
    Cut("pass 300 s", 300),
    Cut("pass 100 s", 100),
    Cut("pass 30 s", 30),
    Cut("pass 10 s", 10),
    Cut("pass 1 s", 1),
    Cut("one bucket, small attention blocks", EVERYTHING, EVERYTHING, 1 << 23),
)
FORMER_CUT_NAMES = {cut.name.replace("bucket", "group"): cut.name for cut in CUTS if "bucket" in cut.name}
"""Present names of cuts by their former names, which --cut still accepts."""


def tune_by_inputs(model: onnx.ModelProto) -> None:
    """Turn the numbers of the graph's Tuning into inputs, also for its loops.

    Args:
        model: The encoder; changed in place.

    Raises:
        ExportError: The graph has no such numbers.
    """
    names = {f".{PASS_STEPS}.": PASS_STEPS, f".{STEPS_AT_ONCE}.": STEPS_AT_ONCE}
    scores = {tuning.scores_at_once for tuning in TUNINGS.values()}
    replaced = _replace_constants(model.graph, names, scores)
    if not replaced >= {PASS_STEPS, STEPS_AT_ONCE}:
        raise ExportError("the encoder's graph has no named constants for length bucketing; export the model again")
    dims: dict[str, list[int]] = {PASS_STEPS: [1], STEPS_AT_ONCE: [1], SCORES_AT_ONCE: []}
    for name in dims:
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, dims[name]))


def _replace_constants(graph: onnx.GraphProto, names: Mapping[str, str], scores: set[int]) -> set[str]:
    """Replace the constants of a Tuning by inputs.

    Args:
        graph: Graph that is changed, with the graphs inside it.
        names: Names of inputs by a part of the constant's name.
        scores: Values of scores_at_once, which has no name in a graph.

    Returns:
        The inputs that are read now.
    """
    renamed: dict[str, str] = {}
    for tensor in list(graph.initializer):
        target = next((target for part, target in names.items() if part in tensor.name), None)
        if target is None and _is_scores(tensor, scores):
            target = SCORES_AT_ONCE
        if target is not None:
            renamed[tensor.name] = target
            graph.initializer.remove(tensor)
    for node in list(graph.node):
        if node.op_type == "Constant" and _is_scores(node.attribute[0].t, scores):
            renamed[node.output[0]] = SCORES_AT_ONCE
            graph.node.remove(node)
    if renamed:
        rename_reads(graph, renamed)
    replaced = set(renamed.values())
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                replaced |= _replace_constants(attribute.g, names, scores)
    return replaced


def _is_scores(tensor: onnx.TensorProto, scores: set[int]) -> bool:
    if tensor.data_type != TensorProto.INT64 or list(tensor.dims) not in ([], [1]):
        return False
    return int(numpy_helper.to_array(tensor).reshape(-1)[0]) in scores
