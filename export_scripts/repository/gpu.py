"""Settings of onnxruntime on a GPU, in a stage's configuration. They have no effect on a CPU.

Names and values are those of Triton's C++ onnxruntime backend. It reads the four older CUDA settings only from the
model's `parameters`: without a parameter it resets them to onnxruntime's defaults, even if the accelerator "cuda" has
them. So those are written as parameters, and all others with the accelerator.

Source: triton-inference-server/onnxruntime_backend, README.md ("ONNX Runtime with TensorRT optimization", "... CUDA
Execution Provider optimization") and src/onnxruntime.cc, ModelState::LoadModel. Measured: docs/gpu.md.
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
"""No search for the fastest convolution ("2"), because onnxruntime searches again for each new shape, and nearly every
batch has one (docs/gpu.md has the times). The memory arena grows by the requested size (kSameAsRequested, "1"), not to
the next power of two."""
CUDA_OPTIONS = {"cudnn_conv_use_max_workspace": "1", "cudnn_conv1d_pad_to_nc1d": "1"}
"""Workspace for the fastest algorithm, and PyTorch's layout of convolutions over time, [N, C, 1, T]."""
TF32 = "use_tf32"

WORKSPACE_BYTES = 4 << 30
ENGINE_CACHE = "tensorrt_engines"
WARM_UP_FOLDER = "warmup"
"""Subfolder of a model in which Triton looks for warm-up data."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """The shortest and the longest expected audio, in seconds."""

    shortest: float = 1.0
    longest: float = 35.0


@dataclass(frozen=True)
class TensorRt:
    """TensorRT's settings.

    Attributes:
        lengths: Shortest and longest audio that engines are built for before the first request. Other audio gets the
            same text, but waits while engines are built again.
        cache: Folder for engines on the server, relative to where tritonserver is started.
    """

    lengths: Lengths = Lengths()
    cache: str = ENGINE_CACHE


def use_cuda(config: triton.ModelConfig, tf32: bool) -> None:
    """Run GPU instances with onnxruntime's CUDA provider.

    Args:
        config: Configuration to change.
        tf32: Whether float32 products may use TF32 (10 bits of mantissa) on tensor cores.
    """
    for key, value in CUDA_PARAMETERS.items():
        config.parameters[key].string_value = value
    config.optimization.execution_accelerators.ClearField("gpu_execution_accelerator")
    config.optimization.execution_accelerators.gpu_execution_accelerator.add(
        name="cuda", parameters={**CUDA_OPTIONS, TF32: "1" if tf32 else "0"}
    )


def use_tensorrt(config: triton.ModelConfig, settings: TensorRt, *, fp16: bool) -> None:
    """Run GPU instances with TensorRT, and with CUDA where TensorRT can't; call after `use_cuda`.

    If TensorRT doesn't support a whole Loop, such as the encoder's, it gets the largest supported parts of the body.
    Shape ranges (trt_profile_min_shapes and so on) would have to name every input of every part, which only onnxruntime
    knows. Without ranges, an engine is built for the shapes seen so far, and again for a shape beyond them. So
    `warm_up` runs the shortest and the longest audio, and the engines are cached. TensorRT computes float64 as float32.

    Args:
        config: Configuration to change.
        settings: Settings of TensorRT.
        fp16: Whether the graph computes in float16.

    Source: onnxruntime, tensorrt_execution_provider.cc, GetCapability; pull request 12692.
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
    """Let Triton warm a ragged stage up: one request of the shortest audio, then a full batch of the longest.

    Args:
        config: Configuration to change.
        lengths: Shortest and longest audio.
        step_rate: Steps per second of the ragged input.

    Returns:
        Warm-up files: path in the model's folder -> content.
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
                # The number of valid steps, which must not be random.
                feed.dims.extend(tensor.dims)
                feed.input_data_file = f"{name}_{tensor.name}"
                files[f"{WARM_UP_FOLDER}/{name}_{tensor.name}"] = np.array([steps], np.int32).tobytes()
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files (path -> content) into a model's folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def computes_in_fp16(graph: onnx.ModelProto) -> bool:
    """Whether any weights of a graph or its subgraphs are float16."""
    return any(
        tensor.data_type == TensorProto.FLOAT16 for inner in all_graphs(graph.graph) for tensor in inner.initializer
    )
