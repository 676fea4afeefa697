"""Open an onnxruntime session with the settings of a model configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from arena import RunOptions
from checks import ConfigError
from providers import CPU, PACKAGES, Providers, gpu_providers, load_libraries, refuse_cpu_accelerators

OPTIMIZATION_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
WEIGHTS_ERRORS = ("External data path", "External initializer", "cannot get file size")
"""Words of onnxruntime's errors about weights in a file (external data): missing or outside of the graph's folder, too
short, missing in 1.19."""


def model_file(folder: Path, config: Mapping[str, Any]) -> Path:
    """The path of a version's graph. If it is a folder, the graph is model.onnx inside."""
    path = folder / (config.get("default_model_filename") or "model.onnx")
    return path / "model.onnx" if path.is_dir() else path


def open_session(
    path: Path, config: Mapping[str, Any], kind: str = "CPU", device: int = 0
) -> tuple[ort.InferenceSession, RunOptions]:
    """Open a graph.

    Args:
        path: The graph's file.
        config: The model's configuration as JSON.
        kind: "GPU" for a CUDA device; anything else is the CPU.
        device: The number of the CUDA device.

    Returns:
        The session and the options for its runs.

    Raises:
        ConfigError: A setting that this backend or the installed onnxruntime can't apply.
    """
    if not path.exists():
        raise ConfigError(f"unable to find '{path}' for model '{config['name']}'")
    parameters = _parameters(config)
    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = OPTIMIZATION_LEVELS.get(level, OPTIMIZATION_LEVELS[0])
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 0)) or _cpu_share()
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 0))
    if _flag(parameters, "execution_mode", False):
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = _flag(parameters, "enable_mem_arena", True)
    options.enable_mem_pattern = _flag(parameters, "enable_mem_pattern", True)
    entry = "session.use_device_allocator_for_initializers"
    if entry in parameters:
        options.add_session_config_entry(entry, parameters[entry])
    run_options = RunOptions(parameters, has_arena=options.enable_cpu_mem_arena)
    refuse_cpu_accelerators(config)
    if kind != "GPU":
        return _open(path, config, options, [CPU]), run_options
    providers = gpu_providers(config, parameters, device)
    load_libraries(providers)
    return _open_on_gpu(path, config, options, providers), run_options


def _cpu_share() -> int:
    """CPU cores of this container; 0 leaves onnxruntime all of the machine's. The launcher finds it out."""
    return int(os.environ.get("NEMO_TRITON_CPUS", 0))


def _parameters(config: Mapping[str, Any]) -> dict[str, str]:
    return {name: value["string_value"] for name, value in config.get("parameters", {}).items()}


def _flag(parameters: Mapping[str, str], name: str, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if value.lower() not in ("0", "1", "false", "true"):
        raise ConfigError(f"parameter {name} is '{value}'; expected 0, 1, false or true")
    return value.lower() in ("1", "true")


def _open(
    path: Path, config: Mapping[str, Any], options: ort.SessionOptions, providers: Providers
) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        # onnxruntime's errors have no common base class.
        if not any(words in str(error) for words in WEIGHTS_ERRORS):
            raise
        raise ConfigError(
            f"model '{config['name']}': the file of weights beside {path} is missing, too short or a link "
            "out of the folder; copy the model's whole folder, or export it again"
        ) from error


def _open_on_gpu(
    path: Path, config: Mapping[str, Any], options: ort.SessionOptions, providers: Providers
) -> ort.InferenceSession:
    session = _open(path, config, options, providers)
    provider_names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    # If a provider's libraries can't be loaded, onnxruntime logs that and silently uses the CPU.
    missing = [name for name in provider_names if name not in session.get_providers()]
    if missing:
        raise ConfigError(
            f"model '{config['name']}': onnxruntime has {missing[0]} but can't load it; install {PACKAGES[missing[0]]} "
            "(the server's log names the missing library)"
        )
    return session
