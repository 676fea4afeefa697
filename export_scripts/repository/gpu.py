"""Settings of onnxruntime on a GPU, in a stage's configuration; on a CPU they have no effect.

Names and values are those that Triton's C++ onnxruntime backend takes: triton-inference-server/onnxruntime_backend,
README.md ("ONNX Runtime with TensorRT optimization", "... CUDA Execution Provider optimization") and
src/onnxruntime.cc, ModelState::LoadModel. There the four older settings of CUDA are taken from the model's `parameters`
even where the accelerator "cuda" has them: without a parameter they are set back to onnxruntime's defaults. So those
are written as parameters, and all others as the accelerator's.

docs/gpu.md has what was measured on a GPU. TensorRT has not been.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.operators.walk import all_graphs

Accelerator = Literal["cuda", "tensorrt"]

CUDA_PARAMETERS = {"cudnn_conv_algo_search": "2", "arena_extend_strategy": "1"}
"""No search for the fastest convolution: onnxruntime searches again for each new shape, and here nearly every batch has
one. With onnxruntime 1.31 a heuristic search ("1") took 3 s for most new shapes of a Conformer-CTC small with 51
convolutions; no search ("2") 0.05 s (docs/gpu.md). The memory arena grows by the size requested
(kSameAsRequested), not to the next power of two."""
CUDA_OPTIONS = {"cudnn_conv_use_max_workspace": "1", "cudnn_conv1d_pad_to_nc1d": "1"}
"""Workspace for the fastest algorithm, and convolutions over time laid out as PyTorch lays them out, [N, C, 1, T]."""
TF32 = "use_tf32"

WORKSPACE_BYTES = 4 << 30
ENGINE_CACHE = "tensorrt_engines"
WARM_UP_FOLDER = "warmup"
"""Where Triton looks for the data of a model's warm-up, in the model's folder."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """The shortest and the longest audio that is expected, in seconds."""

    shortest: float = 1.0
    longest: float = 35.0


@dataclass(frozen=True)
class TensorRt:
    """TensorRT's settings.

    lengths: the range that its engines are built for before the first request; longer audio gives the same text, but
        waits while the engines are built again
    cache: the folder for engines, on the server; relative to where the server was started
    """

    lengths: Lengths = Lengths()
    cache: str = ENGINE_CACHE


def use_cuda(config: triton.ModelConfig, tf32: bool) -> None:
    """Have GPU instances run by onnxruntime's CUDA provider.

    Args:
        tf32: whether products of float32 may be rounded to 10 bits of mantissa (TF32) for the tensor cores
    """
    for key, value in CUDA_PARAMETERS.items():
        config.parameters[key].string_value = value
    config.optimization.execution_accelerators.ClearField("gpu_execution_accelerator")
    config.optimization.execution_accelerators.gpu_execution_accelerator.add(
        name="cuda", parameters={**CUDA_OPTIONS, TF32: "1" if tf32 else "0"}
    )


def use_tensorrt(config: triton.ModelConfig, settings: TensorRt, *, fp16: bool) -> None:
    """Have GPU instances run by TensorRT as far as it can, and by CUDA where it can't; call after use_cuda.

    What it can, by onnxruntime's source (tensorrt_execution_provider.cc, GetCapability; pull request 12692): a graph
    within a Loop is handed to it in the largest parts that it supports, unless it supports the whole Loop. Our
    encoder's network is in one, beside nodes that it does not support, so it gets parts of the
    loop's body. Ranges of shapes can't be named for those (trt_profile_min_shapes and so on): they would have to name
    every input of every part, which only onnxruntime knows, and one that is missing is an error. Without them an
    engine is built for the shapes that it has met, and again for one beyond them, so the model is warmed up by the
    shortest and the longest (see `warm_up`), and what was built is kept. TensorRT computes float64 as float32.

    Args:
        fp16: whether the graph computes in float16
    """
    accelerators = config.optimization.execution_accelerators
    fallbacks = [(other.name, dict(other.parameters)) for other in accelerators.gpu_execution_accelerator]
    accelerators.ClearField("gpu_execution_accelerator")
    accelerators.gpu_execution_accelerator.add(
        name="tensorrt",
        parameters={
            "precision_mode": "FP16" if fp16 else "FP32",
            "max_workspace_size_bytes": str(WORKSPACE_BYTES),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": settings.cache,
            "trt_engine_cache_prefix": config.name,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": settings.cache,
        },
    )
    for name, parameters in fallbacks:
        accelerators.gpu_execution_accelerator.add(name=name, parameters=parameters)


def warm_up(config: triton.ModelConfig, lengths: Lengths, step_rate: int) -> dict[str, bytes]:
    """Have Triton run a ragged stage on the shortest and on a full batch of the longest before it is ready.

    Args:
        step_rate: of the ragged input, in Hz

    Returns:
        The files for the model's folder, by path.
    """
    files = {}
    del config.model_warmup[:]
    for name, seconds, batch in (
        ("shortest", lengths.shortest, 1),
        ("longest", lengths.longest, config.max_batch_size),
    ):
        steps = max(round(seconds * step_rate), 1)
        sample = config.model_warmup.add(name=name, batch_size=batch)
        for tensor in config.input:
            feed = sample.inputs[tensor.name]
            feed.data_type = tensor.data_type
            if tensor.allow_ragged_batch:
                feed.dims.extend(steps if dim < 0 else dim for dim in tensor.dims)
                feed.random_data = True
            else:
                # The number of valid steps; a random one would make no sense.
                feed.dims.extend(tensor.dims)
                feed.input_data_file = f"{name}_{tensor.name}"
                files[f"{WARM_UP_FOLDER}/{name}_{tensor.name}"] = np.array([steps], np.int32).tobytes()
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a model's further files into its folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def computes_in_fp16(graph: onnx.ModelProto) -> bool:
    """Whether any weights of a graph, or of a graph within it, are float16."""
    return any(
        tensor.data_type == TensorProto.FLOAT16 for inner in all_graphs(graph.graph) for tensor in inner.initializer
    )
