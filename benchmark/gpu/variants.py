"""The same graphs, served in other ways: configurations of their own, beside hard links to the exported files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.accelerators import (
    WARM_UP_FOLDER,
    TensorRt,
    computes_in_half,
    use_cuda,
    use_tensorrt,
    warm_up,
    write_files,
)
from export_scripts.triton_config import read_config, write_config

FRAME_RATE = 100
"""Of the encoder's input in Hz, in all models of the catalogue."""
WIDE = 64

CPU, AUTO = triton.ModelInstanceGroup.KIND_CPU, triton.ModelInstanceGroup.KIND_AUTO
Change = Callable[[triton.ModelConfig], None]


@dataclass(frozen=True)
class Variant:
    """One way to serve a recognizer.

    change: what it changes in the configuration of each stage, and of the ensemble
    on_gpus: whether it differs from the first one on a GPU only
    tensorrt: whether TensorRT runs the encoder
    """

    name: str
    what: str
    change: Change
    on_gpus: bool = False
    tensorrt: bool = False


def _as_it_is(config: triton.ModelConfig) -> None:
    return None


def _one_at_a_time(config: triton.ModelConfig) -> None:
    config.max_batch_size = 1


def _wide(config: triton.ModelConfig) -> None:
    config.max_batch_size = WIDE


def _exact_products(config: triton.ModelConfig) -> None:
    if config.name.endswith("_encoder"):
        use_cuda(config, tf32=False)


def _decoder_on_gpu(config: triton.ModelConfig) -> None:
    if config.name.endswith("_decoder"):
        config.instance_group[0].kind = AUTO
        use_cuda(config, tf32=False)


BASELINE = "ragged"
UNBATCHED = "unbatched"
EXACT_PRODUCTS = "no_tf32"
VARIANTS = (
    Variant(
        BASELINE,
        "requests of any lengths in a batch; on a GPU features and encoder by CUDA, decoder on the CPU",
        _as_it_is,
    ),
    Variant(UNBATCHED, "one request at a time in every stage", _one_at_a_time),
    Variant("wide", f"up to {WIDE} requests at once", _wide, on_gpus=True),
    Variant(EXACT_PRODUCTS, "products of float32 not rounded for the tensor cores", _exact_products, on_gpus=True),
    Variant("gpu_decoder", "the decoder on the GPU too", _decoder_on_gpu, on_gpus=True),
    Variant("tensorrt", "TensorRT for what it takes of the encoder", _as_it_is, on_gpus=True, tensorrt=True),
)


def write_variant(repository: Path, model: str, folder: Path, variant: Variant, tensorrt: TensorRt) -> None:
    """Write the ensemble `model` and its steps into `folder`, which is made anew; graphs are links to the exported."""
    shutil.rmtree(folder, ignore_errors=True)
    ensemble = read_config(repository / model)
    configs = [read_config(repository / step.model_name) for step in ensemble.ensemble_scheduling.step]
    for config in (ensemble, *configs):
        _link(repository / config.name, folder / config.name)
        files: dict[str, bytes] = {}
        if config is not ensemble:
            files = _set_up(config, variant, tensorrt, folder / config.name / "1" / "model.onnx")
        variant.change(config)
        write_config(folder / config.name, config)
        write_files(folder / config.name, files)


def _set_up(config: triton.ModelConfig, variant: Variant, tensorrt: TensorRt, graph: Path) -> dict[str, bytes]:
    """As export writes it for the variant's accelerator, whatever this one was exported for; files to write."""
    encodes, decodes = config.name.endswith("_encoder"), config.name.endswith("_decoder")
    if decodes:
        config.instance_group[0].kind = CPU
    config.optimization.execution_accelerators.ClearField("gpu_execution_accelerator")
    del config.model_warmup[:]
    if config.instance_group[0].kind == CPU:
        return {}
    use_cuda(config, tf32=encodes)
    if not (encodes and variant.tensorrt):
        return {}
    use_tensorrt(config, tensorrt, computes_in_half(onnx.load(graph)))
    return warm_up(config, tensorrt.lengths, FRAME_RATE)


def _link(model: Path, folder: Path) -> None:
    for file in sorted(path for path in model.rglob("*") if path.is_file()):
        inside = file.relative_to(model)
        if inside.parts[0] in ("config.pbtxt", WARM_UP_FOLDER):
            continue
        target = folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), target)
        except OSError:
            # Another file system, or one without links.
            shutil.copyfile(file, target)
    (folder / "1").mkdir(parents=True, exist_ok=True)
