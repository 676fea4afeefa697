"""Placement of the stages of a model repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from tritonclient.grpc import model_config_pb2 as triton

from benchmark.core.models import RepositoryError, choose, read_models
from benchmark.studies.gpu.placement.graphs import place
from benchmark.studies.gpu.placement.kernels import Kernels
from benchmark.studies.gpu.placement.result import Placement
from export_scripts.repository.config import read_config


@dataclass(frozen=True)
class PlacedStage:
    """A stage of a repository and its placement.

    Attributes:
        name: The stage.
        on_gpu: Whether its configuration puts it on a GPU if the server has one.
        placement: Placement of its graph on a GPU.
    """

    name: str
    on_gpu: bool
    placement: Placement


def place_stages(repository: Path, patterns: Sequence[str], kernels: Kernels) -> list[PlacedStage]:
    """Place the stages of recognizers, each stage once.

    Args:
        repository: The model repository.
        patterns: Names of recognizers, or patterns such as coffee_*; all recognizers if empty.
        kernels: CUDA kernels of the onnxruntime that would serve it.

    Raises:
        RepositoryError: No recognizer matches a pattern, or a graph is unreadable.
    """
    chosen = choose(read_models(repository), patterns or ["*"], repository)
    configs = [read_config(repository / model.name) for model in chosen]
    steps = [step.model_name for config in configs for step in config.ensemble_scheduling.step]
    return [_place_stage(repository, name, kernels) for name in dict.fromkeys(steps)]


def _place_stage(repository: Path, name: str, kernels: Kernels) -> PlacedStage:
    file = repository / name / "1" / "model.onnx"
    try:
        # Where a node runs doesn't depend on the numbers in large weights, which may lie in a file.
        model = onnx.load(file, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise RepositoryError(f"{file}: not readable as an ONNX graph; export the model again") from error
    config = read_config(repository / name)
    on_gpu = config.instance_group[0].kind != triton.ModelInstanceGroup.KIND_CPU
    return PlacedStage(name, on_gpu, place(model, kernels))
