"""The same graphs, served in other ways: configurations of their own, beside hard links to the exported files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from tritonclient.grpc import model_config_pb2 as triton

from benchmark.studies.gpu.tuning_inputs import FRAME_RATE
from export_scripts.errors import ExportError
from export_scripts.repository.config import Serving, Stage, ensemble_config, read_config, stage_config, write_config
from export_scripts.repository.gpu import (
    WARM_UP_FOLDER,
    TensorRt,
    computes_in_fp16,
    use_cuda,
    use_tensorrt,
    warm_up,
    write_files,
)
from export_scripts.repository.publish import write_model
from export_scripts.stages.text import split_text
from nemo_triton.contract import Part

WIDE = 256

CPU, AUTO = triton.ModelInstanceGroup.KIND_CPU, triton.ModelInstanceGroup.KIND_AUTO
Change = Callable[[triton.ModelConfig], None]


@dataclass(frozen=True)
class Variant:
    """One way to serve a recognizer.

    change: what it changes in the configuration of each stage, and of the ensemble
    on_gpus: whether it differs from the first one on a GPU only
    tensorrt: whether TensorRT runs the encoder
    splits_text: whether a stage of its own makes the text, as in an export with --decoder-device gpu
    """

    name: str
    what: str
    change: Change
    on_gpus: bool = False
    tensorrt: bool = False
    splits_text: bool = False


def _as_it_is(config: triton.ModelConfig) -> None:
    return None


def _one_at_a_time(config: triton.ModelConfig) -> None:
    config.max_batch_size = 1


def _wide(config: triton.ModelConfig) -> None:
    config.max_batch_size = WIDE


def _exact_products(config: triton.ModelConfig) -> None:
    if config.name.endswith(Part.ENCODER.value):
        use_cuda(config, tf32=False)


def _decoder_on_gpu(config: triton.ModelConfig) -> None:
    if config.name.endswith(Part.DECODER.value):
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
    Variant(
        "gpu_decoder",
        "the decoder on the GPU too, all but the text, which a stage of its own makes on the CPU",
        _decoder_on_gpu,
        on_gpus=True,
        splits_text=True,
    ),
    Variant("tensorrt", "TensorRT for what it takes of the encoder", _as_it_is, on_gpus=True, tensorrt=True),
)


def write_variant(repository: Path, model: str, folder: Path, variant: Variant, tensorrt: TensorRt) -> None:
    """Write the ensemble `model` and its steps into `folder`, which is made anew; graphs are links to the exported.

    Raises ExportError where the variant needs another graph than was exported and it can't be made from that one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    ensemble = read_config(repository / model)
    configs = [read_config(repository / step.model_name) for step in ensemble.ensemble_scheduling.step]
    graphs: dict[str, onnx.ModelProto] = {}
    if variant.splits_text and configs[-1].name.endswith(Part.DECODER.value):
        *others, decoder = configs
        stages, graphs = _split_text(repository, decoder)
        configs = [*others, *stages]
        parameters = {key: value.string_value for key, value in ensemble.parameters.items()}
        outputs = [output.name for output in ensemble.output]
        ensemble = ensemble_config(ensemble.name, configs, outputs, parameters)
    for config in (ensemble, *configs):
        if config.name in graphs:
            write_model(folder, config, graphs[config.name])
        else:
            _link(repository / config.name, folder / config.name)
        files: dict[str, bytes] = {}
        if config is not ensemble:
            files = _set_up(config, variant, tensorrt, folder / config.name / "1" / "model.onnx")
        variant.change(config)
        write_config(folder / config.name, config)
        write_files(folder / config.name, files)


def _split_text(
    repository: Path, decoder: triton.ModelConfig
) -> tuple[list[triton.ModelConfig], dict[str, onnx.ModelProto]]:
    """What an export with --decoder-device gpu has in place of the decoder: configurations, and graphs by name."""
    file = repository / decoder.name / "1" / "model.onnx"
    try:
        tokens_graph, text_graph = split_text(onnx.load(file))
    except ValueError as error:
        raise ExportError(f"{file}: {error}; export it again with --decoder-device gpu") from error
    delay = decoder.dynamic_batching.max_queue_delay_microseconds
    serving = Serving(max_batch_size=decoder.max_batch_size, queue_delay_us=delay)
    name = decoder.name.removesuffix(Part.DECODER.value)
    stages = [
        Stage(name=decoder.name, graph=tokens_graph, device="any"),
        Stage(name=Part.TEXT.of(name), graph=text_graph, device="cpu"),
    ]
    return [stage_config(stage, serving) for stage in stages], {stage.name: stage.graph for stage in stages}


def _set_up(config: triton.ModelConfig, variant: Variant, tensorrt: TensorRt, graph: Path) -> dict[str, bytes]:
    """As export writes it for the variant's accelerator, whatever this one was exported for; files to write."""
    encodes, decodes = config.name.endswith(Part.ENCODER.value), config.name.endswith(Part.DECODER.value)
    if decodes:
        config.instance_group[0].kind = CPU
    config.optimization.execution_accelerators.ClearField("gpu_execution_accelerator")
    del config.model_warmup[:]
    if config.instance_group[0].kind == CPU:
        return {}
    use_cuda(config, tf32=encodes)
    if not (encodes and variant.tensorrt):
        return {}
    use_tensorrt(config, tensorrt, fp16=computes_in_fp16(onnx.load(graph)))
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
