"""Variants of serving a recognizer on a GPU, for benchmark.studies.variants.write_variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import onnx
from tritonclient.grpc import model_config_pb2 as triton

from benchmark.studies.gpu.cuts import FRAME_RATE
from benchmark.studies.gpu.fused import fuse
from benchmark.studies.variants import Change, RecognizerVariant, Step
from export_scripts.errors import ExportError
from export_scripts.repository.config import Serving, Stage, ensemble_config, stage_config
from export_scripts.repository.gpu import TensorRt, computes_in_fp16, use_cuda, use_tensorrt, warm_up
from export_scripts.stages.text import split_text
from nemo_triton.contract import Part

WIDE = 256
DECODERS = 8

CPU, AUTO = triton.ModelInstanceGroup.KIND_CPU, triton.ModelInstanceGroup.KIND_AUTO
ChangeConfig = Callable[[triton.ModelConfig], None]


@dataclass(frozen=True)
class Variant:
    """One variant of serving a recognizer.

    Attributes:
        name: Name in options and results.
        description: Difference from the other variants.
        change: Function that changes the configuration of each stage and of the ensemble.
        on_gpus: Whether it is measured only on a GPU.
        tensorrt: Whether TensorRT runs the encoder.
        splits_text: Whether a separate stage makes the text, as in an export with --decoder-device gpu.
        fuses_features: Whether the encoder's graph computes the features too, without TF32.
    """

    name: str
    description: str
    change: ChangeConfig
    on_gpus: bool = False
    tensorrt: bool = False
    splits_text: bool = False
    fuses_features: bool = False

    def change_for(self, tensorrt: TensorRt) -> Change:
        """The change for `write_variant`, with these settings of TensorRT.

        The change raises ExportError if the variant needs a graph that can't be made from the exported one.
        """
        return partial(_change, self, tensorrt)


def _unchanged(config: triton.ModelConfig) -> None:
    return None


def _one_at_a_time(config: triton.ModelConfig) -> None:
    config.max_batch_size = 1


def _wide(config: triton.ModelConfig) -> None:
    config.max_batch_size = WIDE
    queue = config.dynamic_batching.default_queue_policy
    if queue.max_queue_size:
        queue.max_queue_size = max(queue.max_queue_size, WIDE)


def _instances(count: int, part: str = "") -> ChangeConfig:
    """Set the number of instances of the stages whose names end with `part`."""

    def change(config: triton.ModelConfig) -> None:
        if config.instance_group and config.name.endswith(part):
            config.instance_group[0].count = count

    return change


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
        "requests of any length share a batch; with a GPU, CUDA runs features and encoder, the CPU runs the decoder",
        _unchanged,
    ),
    Variant(UNBATCHED, "one request at a time in every stage", _one_at_a_time),
    Variant("wide", f"up to {WIDE} requests per batch", _wide, on_gpus=True),
    Variant("two_encoders", "two instances of the encoder", _instances(2, Part.ENCODER.value), on_gpus=True),
    Variant("two_of_each", "two instances of each stage", _instances(2), on_gpus=True),
    Variant(
        "many_decoders",
        f"{DECODERS} instances of the decoder on the CPU",
        _instances(DECODERS, Part.DECODER.value),
        on_gpus=True,
    ),
    Variant(
        "fused_features",
        "the encoder's graph computes the features too, so that one process uses the GPU; without TF32",
        _unchanged,
        on_gpus=True,
        fuses_features=True,
    ),
    Variant(
        "two_fused_encoders",
        "two instances of an encoder that computes the features too",
        _instances(2, Part.ENCODER.value),
        on_gpus=True,
        fuses_features=True,
    ),
    Variant(EXACT_PRODUCTS, "float32 products without TF32", _exact_products, on_gpus=True),
    Variant(
        "gpu_decoder",
        "the decoder on the GPU too; a separate stage makes the text on the CPU",
        _decoder_on_gpu,
        on_gpus=True,
        splits_text=True,
    ),
    Variant(
        "tensorrt", "TensorRT runs the parts of the encoder that it supports", _unchanged, on_gpus=True, tensorrt=True
    ),
)


def _change(variant: Variant, tensorrt: TensorRt, recognizer: RecognizerVariant) -> None:
    last_step = recognizer.steps[-1]
    if variant.splits_text and last_step.config.name.endswith(Part.DECODER.value):
        recognizer.steps[-1:] = _split_text(last_step)
        _wire(recognizer)
    if variant.fuses_features:
        _fuse_features(recognizer)
        _wire(recognizer)
    for step in recognizer.steps:
        _set_up(step, variant, tensorrt)
        variant.change(step.config)
    variant.change(recognizer.ensemble.config)


def _wire(recognizer: RecognizerVariant) -> None:
    """Write the ensemble anew for the recognizer's steps."""
    ensemble = recognizer.ensemble.config
    recognizer.ensemble.config = ensemble_config(
        ensemble.name,
        [step.config for step in recognizer.steps],
        [output.name for output in ensemble.output],
        {key: value.string_value for key, value in ensemble.parameters.items()},
    )


def _fuse_features(recognizer: RecognizerVariant) -> None:
    """Replace the features' stage and the encoder's by one."""
    features, encoder = recognizer.steps[1:3]
    graph = fuse(onnx.load(features.graph_file), onnx.load(encoder.graph_file))
    exported = encoder.config
    config = stage_config(Stage(name=exported.name, graph=graph, device="any", encodes=True), Serving())
    config.max_batch_size = exported.max_batch_size
    config.dynamic_batching.CopyFrom(exported.dynamic_batching)
    config.instance_group[0].CopyFrom(exported.instance_group[0])
    config.ClearField("parameters")
    for key, value in exported.parameters.items():
        config.parameters[key].CopyFrom(value)
    recognizer.steps[1:3] = [Step(config, graph=graph)]


def _split_text(decoder: Step) -> list[Step]:
    """Split the decoder as an export with --decoder-device gpu does: a decoder and a text stage."""
    try:
        tokens_graph, text_graph = split_text(onnx.load(decoder.graph_file))
    except ValueError as error:
        raise ExportError(f"{decoder.graph_file}: {error}; export it again with --decoder-device gpu") from error
    config = decoder.config
    serving = Serving(
        max_batch_size=config.max_batch_size, queue_delay_us=config.dynamic_batching.max_queue_delay_microseconds
    )
    text_name = Part.TEXT.of(config.name.removesuffix(Part.DECODER.value))
    stages = [
        Stage(name=config.name, graph=tokens_graph, device="any"),
        Stage(name=text_name, graph=text_graph, device="cpu"),
    ]
    return [Step(stage_config(stage, serving), graph=stage.graph) for stage in stages]


def _set_up(step: Step, variant: Variant, tensorrt: TensorRt) -> None:
    """Configure a step as export.py does for the variant's accelerator, whatever it was exported for."""
    config = step.config
    encodes, decodes = config.name.endswith(Part.ENCODER.value), config.name.endswith(Part.DECODER.value)
    if decodes:
        config.instance_group[0].kind = CPU
    config.optimization.execution_accelerators.ClearField("gpu_execution_accelerator")
    del config.model_warmup[:]
    if config.instance_group[0].kind == CPU:
        return
    # TF32 is too inexact for a DFT.
    use_cuda(config, tf32=encodes and not variant.fuses_features)
    if encodes and variant.tensorrt:
        use_tensorrt(config, tensorrt, fp16=computes_in_fp16(onnx.load(step.graph_file)))
        step.files = warm_up(config, tensorrt.lengths, FRAME_RATE)
