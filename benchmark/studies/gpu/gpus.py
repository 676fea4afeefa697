"""Peak rates of GPUs from their data sheets, and the GPUs of this machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

_SPARSE = "its rates are with sparsity; halved here"
_HOPPER = f"NVIDIA H100 Tensor Core GPU data sheet ({_SPARSE})"
_H100 = {"fp32": 67e12, "tf32": 494.5e12, "bf16": 989.5e12, "fp16": 989.5e12}
_A100 = {"fp32": 19.5e12, "tf32": 156e12, "bf16": 312e12, "fp16": 312e12}
_AMPERE = "NVIDIA A100 Tensor Core GPU data sheet"


@dataclass(frozen=True)
class GpuModel:
    """Peak rates of a GPU, without sparsity.

    Attributes:
        name: The GPU.
        pattern: Regular expression for the name that nvidia-smi prints.
        operations: FLOPs per second by number format; a multiplication and an addition are two.
        bytes: Bytes per second to and from its memory.
        source: Publication of the rates.
    """

    name: str
    pattern: str
    operations: Mapping[str, float]
    bytes: float
    source: str


GPU_MODELS = (
    GpuModel("H200 SXM", r"\bH200\b(?!.*NVL)", _H100, 4.8e12, f"NVIDIA H200 Tensor Core GPU data sheet ({_SPARSE})"),
    GpuModel(
        "H100 PCIe",
        r"\bH100 PCIe\b",
        {"fp32": 51e12, "tf32": 378e12, "bf16": 756.5e12, "fp16": 756.5e12},
        2.0e12,
        _HOPPER,
    ),
    GpuModel("H100 SXM", r"\bH100\b.*\bHBM3\b", _H100, 3.35e12, _HOPPER),
    GpuModel("A100 SXM 80 GB", r"\bA100-SXM4-80GB\b", _A100, 2.039e12, _AMPERE),
    GpuModel("A100 SXM 40 GB", r"\bA100-SXM4-40GB\b", _A100, 1.555e12, _AMPERE),
    GpuModel("A100 PCIe 80 GB", r"\bA100 80GB PCIe\b", _A100, 1.935e12, _AMPERE),
    GpuModel("A100 PCIe 40 GB", r"\bA100-PCIE-40GB\b", _A100, 1.555e12, _AMPERE),
    GpuModel(
        "L4",
        r"\bL4\b",
        {"fp32": 30.3e12, "tf32": 60e12, "bf16": 121e12, "fp16": 121e12},
        300e9,
        f"NVIDIA L4 Tensor Core GPU data sheet ({_SPARSE})",
    ),
    GpuModel("T4", r"\bT4\b", {"fp32": 8.1e12, "fp16": 65e12}, 320e9, "NVIDIA T4 Tensor Core GPU data sheet"),
)


def known_gpu(name: str) -> GpuModel | None:
    """The GPU with this name in nvidia-smi; None if GPU_MODELS lacks it."""
    return next((gpu for gpu in GPU_MODELS if re.search(gpu.pattern, name)), None)


def find_gpus() -> list[str]:
    """The names of this machine's NVIDIA GPUs, from nvidia-smi; empty without a GPU or a driver."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.strip()] if listed.returncode == 0 else []


def rate_of(operations: Mapping[str, float], precision: str) -> tuple[str, float] | None:
    """The number format of a model's products and its rate; None if the rate is unknown.

    The encoder of a float32 model may use TF32.
    """
    formats = ("tf32", "fp32") if precision == "fp32" else (precision,)
    return next(((name, operations[name]) for name in formats if name in operations), None)
