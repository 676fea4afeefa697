"""onnxruntime's execution providers for a GPU instance, from a model configuration.

The rules are those of Triton's C++ backend.

Source: triton-inference-server/onnxruntime_backend, src/onnxruntime.cc, ModelState::LoadModel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import onnxruntime as ort
from checks import ConfigError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

PACKAGES = {
    CUDA: "onnxruntime-gpu[cuda,cudnn] in place of onnxruntime",
    TENSORRT: "onnxruntime-gpu[cuda,cudnn] in place of onnxruntime, and the release of tensorrt that it was built with",
}

CHOICES = {
    "cudnn_conv_algo_search": {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"},
    "arena_extend_strategy": {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"},
}
"""CUDA settings that are model parameters: their values in a configuration, and onnxruntime's names of these values."""
CUDA_PARAMETERS = (*CHOICES, "gpu_mem_limit", "do_copy_in_default_stream")
"""All CUDA settings that are model parameters. Given as parameters of an accelerator, they have no effect."""
CUDA_FLAGS = ("do_copy_in_default_stream", "use_ep_level_unified_stream")

PRECISIONS = {"FP32": None, "FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable"}
TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
"""Settings whose name in Triton differs from onnxruntime's."""
TENSORRT_NUMBERS = (
    "max_workspace_size_bytes",
    "trt_max_partition_iterations",
    "trt_min_subgraph_size",
    "trt_dla_core",
    "trt_builder_optimization_level",
    "trt_auxiliary_streams",
    "trt_ep_context_embed_mode",
)
TENSORRT_FLAGS = (
    "int8_use_native_calibration_table",
    "trt_dla_enable",
    "trt_engine_cache_enable",
    "trt_dump_subgraphs",
    "trt_force_sequential_engine_build",
    "trt_context_memory_sharing_enable",
    "trt_layer_norm_fp32_fallback",
    "trt_timing_cache_enable",
    "trt_force_timing_cache",
    "trt_detailed_build_log",
    "trt_build_heuristics_enable",
    "trt_sparsity_enable",
    "trt_cuda_graph_enable",
    "trt_dump_ep_context_model",
)
TENSORRT_TEXTS = (
    "int8_calibration_table_name",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_timing_cache_path",
    "trt_tactic_sources",
    "trt_extra_plugin_lib_paths",
    "trt_profile_min_shapes",
    "trt_profile_max_shapes",
    "trt_profile_opt_shapes",
    "trt_ep_context_file_path",
)

FLAG_VALUES = {"0": "0", "1": "1", "false": "0", "true": "1"}

Providers = list[str | tuple[str, dict[str, str]]]


def gpu_providers(config: Mapping[str, Any], parameters: Mapping[str, str], device: int) -> Providers:
    """List the providers for a graph on a GPU, the preferred one first, with their options.

    Args:
        config: The model's configuration as JSON.
        parameters: The configuration's parameters.
        device: The number of the CUDA device.

    Raises:
        ConfigError: A setting that the C++ backend refuses, or the installed onnxruntime lacks a provider.
    """
    prefix = f"model '{config['name']}': "
    providers: Providers = []
    cuda_options: dict[str, str] = {}
    for accelerator in _accelerators(config, "gpu_execution_accelerator"):
        options = accelerator.get("parameters") or {}
        if accelerator["name"] == "tensorrt":
            tensorrt_options = _tensorrt_options(options, prefix)
            providers.append((_available(TENSORRT, prefix), {**tensorrt_options, "device_id": str(device)}))
        elif accelerator["name"] == "cuda":
            cuda_options |= {
                name: _flag(name, value, prefix) if name in CUDA_FLAGS else value for name, value in options.items()
            }
        else:
            raise ConfigError(prefix + f"unknown Execution Accelerator '{accelerator['name']}' is requested")
    for name in CUDA_PARAMETERS:
        cuda_options.pop(name, None)
        if name in parameters:
            cuda_options[name] = _cuda_parameter(name, parameters[name], prefix)
    return [*providers, (_available(CUDA, prefix), {**cuda_options, "device_id": str(device)}), CPU]


def refuse_cpu_accelerators(config: Mapping[str, Any]) -> None:
    """Refuse accelerators for CPUs on every device, as the C++ backend does; this backend has none.

    Raises:
        ConfigError: The configuration has one.
    """
    for accelerator in _accelerators(config, "cpu_execution_accelerator"):
        raise ConfigError(
            f"model '{config['name']}': unknown Execution Accelerator '{accelerator['name']}' is requested"
        )


def load_libraries(providers: Providers) -> None:
    """Load the libraries of the providers from this environment's packages, which come before the system's."""
    if (preload := getattr(ort, "preload_dlls", None)) is not None:  # Since onnxruntime 1.21.
        preload()
    if any(provider[0] == TENSORRT for provider in providers):
        with suppress(ImportError):
            import tensorrt  # noqa: F401


def _accelerators(config: Mapping[str, Any], kind: str) -> Sequence[Mapping[str, Any]]:
    accelerators: Sequence[Mapping[str, Any]] = (
        (config.get("optimization") or {}).get("execution_accelerators") or {}
    ).get(kind, ())
    return accelerators


def _available(provider: str, prefix: str) -> str:
    if provider not in ort.get_available_providers():
        raise ConfigError(prefix + f"onnxruntime lacks {provider}; install {PACKAGES[provider]}")
    return provider


def _cuda_parameter(name: str, value: str, prefix: str) -> str:
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise ConfigError(prefix + f"unsupported {name} value '{value}' is requested")
        return CHOICES[name][value]
    return _flag(name, value, prefix) if name in CUDA_FLAGS else _number(name, value, prefix)


def _tensorrt_options(parameters: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Translate an accelerator's parameters to onnxruntime's names and values."""
    options = {}
    for name, value in parameters.items():
        if name == "precision_mode":
            if value not in PRECISIONS:
                raise ConfigError(prefix + f"unsupported precision mode '{value}' is requested")
            if (enabled := PRECISIONS[value]) is not None:
                options[enabled] = "True"
        elif name in TENSORRT_FLAGS:
            # onnxruntime's Python API expects True and False here; its C++ API expects 1 and 0.
            options[TENSORRT_NAMES.get(name, name)] = "True" if _flag(name, value, prefix) == "1" else "False"
        elif name in TENSORRT_NUMBERS:
            options[TENSORRT_NAMES.get(name, name)] = _number(name, value, prefix)
        elif name in TENSORRT_TEXTS:
            options[TENSORRT_NAMES.get(name, name)] = value
        else:
            raise ConfigError(prefix + f"unknown parameter '{name}' is provided for TensorRT Execution Accelerator")
    return options


def _flag(name: str, value: str, prefix: str) -> str:
    if value.lower() not in FLAG_VALUES:
        raise ConfigError(prefix + f"{name} is '{value}'; expected 0, 1, false or true")
    return FLAG_VALUES[value.lower()]


def _number(name: str, value: str, prefix: str) -> str:
    try:
        return str(int(value))
    except ValueError:
        raise ConfigError(prefix + f"{name} is '{value}'; expected a whole number") from None
