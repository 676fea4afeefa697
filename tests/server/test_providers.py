"""Providers and their options for GPU instances. Only the presence of a GPU is faked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
import small_models as small

from benchmark.studies.gpu import stage
from export_scripts.repository import gpu as accelerators

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("backend_modules")]

CUDA_ONLY = ["CUDAExecutionProvider", "CPUExecutionProvider"]
ALL = ["TensorrtExecutionProvider", *CUDA_ONLY]


def providers(
    monkeypatch: pytest.MonkeyPatch,
    accelerators: dict[str, Any],
    parameters: dict[str, str] | None = None,
    installed: list[str] = ALL,
) -> Any:
    from providers import gpu_providers

    monkeypatch.setattr(ort, "get_available_providers", lambda: installed)
    config = {"name": "m", "optimization": {"execution_accelerators": accelerators}}
    return gpu_providers(config, parameters or {}, device=1)


def gpu(name: str, **parameters: str) -> dict[str, Any]:
    return {"gpu_execution_accelerator": [{"name": name, "parameters": parameters}]}


def test_cuda_with_options(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = gpu("cuda", use_tf32="0", cudnn_conv_use_max_workspace="1", use_ep_level_unified_stream="true")
    (cuda, options), cpu = providers(monkeypatch, requested, {"cudnn_conv_algo_search": "1", "gpu_mem_limit": "1000"})
    assert (cuda, cpu) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options == {
        "device_id": "1",
        "use_tf32": "0",
        "cudnn_conv_use_max_workspace": "1",
        "use_ep_level_unified_stream": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "gpu_mem_limit": "1000",
    }


def test_the_older_settings_come_from_parameters_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C++ backend does the same: parameters or defaults overwrite settings of the accelerator."""
    requested = gpu("cuda", cudnn_conv_algo_search="HEURISTIC", arena_extend_strategy="kSameAsRequested")
    (_, options), _ = providers(monkeypatch, requested, {"arena_extend_strategy": "0"})
    assert options == {"device_id": "1", "arena_extend_strategy": "kNextPowerOfTwo"}


def test_tensorrt_with_cuda_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    requested = gpu(
        "tensorrt",
        precision_mode="FP16",
        max_workspace_size_bytes="1073741824",
        trt_engine_cache_enable="1",
        trt_engine_cache_path="/engines",
        trt_builder_optimization_level="3",
        trt_timing_cache_enable="false",
    )
    (tensorrt, options), (cuda, _), cpu = providers(monkeypatch, requested)
    assert [tensorrt, cuda, cpu] == ALL
    assert options == {
        "device_id": "1",
        "trt_fp16_enable": "True",
        "trt_max_workspace_size": "1073741824",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "/engines",
        "trt_builder_optimization_level": "3",
        "trt_timing_cache_enable": "False",
    }


@pytest.mark.parametrize(
    ("accelerators", "parameters", "installed", "says"),
    [
        (gpu("cuda"), {}, ["CPUExecutionProvider"], "onnxruntime lacks CUDAExecutionProvider; install onnxruntime-gpu"),
        (gpu("tensorrt"), {}, CUDA_ONLY, "lacks TensorrtExecutionProvider; install onnxruntime-gpu.* tensorrt"),
        (gpu("tensorrt", precision_mode="FP4"), {}, ALL, "unsupported precision mode 'FP4' is requested"),
        (gpu("tensorrt", fast="1"), {}, ALL, "unknown parameter 'fast' is provided for TensorRT Execution Accelerator"),
        (gpu("tensorrt", trt_engine_cache_enable="yes"), {}, ALL, "trt_engine_cache_enable is 'yes'; expected 0, 1"),
        (gpu("tensorrt", max_workspace_size_bytes="1 GB"), {}, ALL, "max_workspace_size_bytes is '1 GB'; expected a w"),
        (gpu("openvino"), {}, ALL, "unknown Execution Accelerator 'openvino' is requested"),
        (gpu("cuda", use_ep_level_unified_stream="maybe"), {}, ALL, "use_ep_level_unified_stream is 'maybe'"),
        (gpu("cuda"), {"cudnn_conv_algo_search": "3"}, ALL, "unsupported cudnn_conv_algo_search value '3'"),
        (gpu("cuda"), {"arena_extend_strategy": "big"}, ALL, "unsupported arena_extend_strategy value 'big'"),
        (gpu("cuda"), {"gpu_mem_limit": "half"}, ALL, "gpu_mem_limit is 'half'; expected a whole number"),
    ],
)
def test_invalid_settings_are_refused(
    accelerators: dict[str, Any],
    parameters: dict[str, str],
    installed: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from checks import ConfigError

    with pytest.raises(ConfigError, match=f"^model 'm': .*{says}"):
        providers(monkeypatch, accelerators, parameters, installed)


def test_a_provider_that_onnxruntime_can_not_load_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without CUDA's libraries onnxruntime logs an error and uses the CPU."""
    from checks import ConfigError
    from session import open_session

    small.write(tmp_path, "double", small.double(), small.DOUBLE)
    monkeypatch.setattr(ort, "get_available_providers", lambda: CUDA_ONLY)
    with pytest.raises(ConfigError, match="onnxruntime has CUDAExecutionProvider but"):
        open_session(tmp_path / "double" / "1" / "model.onnx", {"name": "double"}, "GPU", 0)


def test_a_cpu_instance_ignores_gpu_accelerators(tmp_path: Path) -> None:
    from session import open_session

    small.write(tmp_path, "double", small.double(), small.DOUBLE)
    config = {"name": "double", "optimization": {"execution_accelerators": gpu("tensorrt", nonsense="1")}}
    session, _ = open_session(tmp_path / "double" / "1" / "model.onnx", config, "CPU")
    assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("kind", ["CPU", "GPU"])
def test_cpu_accelerators_are_refused_on_every_device(tmp_path: Path, kind: str) -> None:
    from checks import ConfigError
    from session import open_session

    small.write(tmp_path, "double", small.double(), small.DOUBLE)
    accelerators = {"cpu_execution_accelerator": [{"name": "openvino"}]}
    config = {"name": "double", "optimization": {"execution_accelerators": accelerators}}
    with pytest.raises(ConfigError, match=r"^model 'double': unknown Execution Accelerator 'openvino' is requested"):
        open_session(tmp_path / "double" / "1" / "model.onnx", config, kind)


def test_the_stage_benchmark_uses_the_options_of_an_export() -> None:
    from providers import CHOICES

    parameters = {name: CHOICES[name][value] for name, value in accelerators.CUDA_PARAMETERS.items()}
    assert parameters | accelerators.CUDA_OPTIONS == stage.CUDA_OPTIONS
