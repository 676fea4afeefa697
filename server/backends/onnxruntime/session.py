"""An onnxruntime session as a model configuration asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from contract import ConfigError

OPTIMIZATION_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
CUDNN_SEARCHES = {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"}
ARENA_STRATEGIES = {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"}


def model_file(folder: Path, config: Mapping[str, Any]) -> Path:
    """The graph of a model version; a folder of that name may hold it as model.onnx."""
    path = folder / (config.get("default_model_filename") or "model.onnx")
    return path / "model.onnx" if path.is_dir() else path


def open_session(
    path: Path, config: Mapping[str, Any], kind: str = "CPU", device: int = 0
) -> tuple[ort.InferenceSession, ort.RunOptions]:
    """Open the graph on the CPU or, where `kind` is "GPU", on that CUDA device.

    Raises ConfigError for a setting that can't be honoured.
    """
    if not path.exists():
        raise ConfigError(f"unable to find '{path}' for model '{config['name']}'")
    parameters = _parameters(config)
    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = OPTIMIZATION_LEVELS.get(level, OPTIMIZATION_LEVELS[0])
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 0))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 0))
    if _flag(parameters, "execution_mode", False):
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = _flag(parameters, "enable_mem_arena", True)
    options.enable_mem_pattern = _flag(parameters, "enable_mem_pattern", True)
    entry = "session.use_device_allocator_for_initializers"
    if entry in parameters:
        options.add_session_config_entry(entry, parameters[entry])
    run_options = ort.RunOptions()
    entry = "memory.enable_memory_arena_shrinkage"
    if entry in parameters:
        run_options.add_run_config_entry(entry, parameters[entry])
    providers = _providers(config, parameters, kind, device)
    return ort.InferenceSession(str(path), options, providers=providers), run_options


def _parameters(config: Mapping[str, Any]) -> dict[str, str]:
    return {name: value["string_value"] for name, value in config.get("parameters", {}).items()}


def _flag(parameters: Mapping[str, str], name: str, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if value.lower() not in ("0", "1", "false", "true"):
        raise ConfigError(f"parameter {name} is '{value}'; expected 0, 1, false or true")
    return value.lower() in ("1", "true")


def _providers(
    config: Mapping[str, Any], parameters: Mapping[str, str], kind: str, device: int
) -> list[str | tuple[str, dict[str, str]]]:
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    for accelerator in (
        *accelerators.get("gpu_execution_accelerator", ()),
        *accelerators.get("cpu_execution_accelerator", ()),
    ):
        if accelerator["name"] != "cuda":
            raise ConfigError(f"model '{config['name']}': this backend has no accelerator '{accelerator['name']}'")
    if kind != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise ConfigError(f"model '{config['name']}' asks for a GPU: install onnxruntime-gpu in place of onnxruntime")
    options = {"device_id": str(device)}
    if "cudnn_conv_algo_search" in parameters:
        options["cudnn_conv_algo_search"] = CUDNN_SEARCHES[parameters["cudnn_conv_algo_search"]]
    if "gpu_mem_limit" in parameters:
        options["gpu_mem_limit"] = parameters["gpu_mem_limit"]
    if "arena_extend_strategy" in parameters:
        options["arena_extend_strategy"] = ARENA_STRATEGIES[parameters["arena_extend_strategy"]]
    for accelerator in accelerators.get("gpu_execution_accelerator", ()):
        options.update(accelerator.get("parameters", {}))
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]
