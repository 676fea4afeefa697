"""Write config.pbtxt of stages and ensembles, with Triton's own protobuf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import onnx
from google.protobuf import text_format
from onnx import TensorProto
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.errors import ExportError
from export_scripts.operators.ragged import item_dims_key
from export_scripts.operators.tuning import Target
from export_scripts.repository.audio_limit import SHRINK_FROM_BYTES
from export_scripts.repository.gpu import Accelerator, TensorRt, computes_in_fp16, use_cuda, use_tensorrt
from nemo_triton.contract import AudioFormat, Tensor

TRITON_TYPES: dict[int, int] = {
    TensorProto.BOOL: triton.TYPE_BOOL,
    TensorProto.UINT8: triton.TYPE_UINT8,
    TensorProto.UINT16: triton.TYPE_UINT16,
    TensorProto.UINT32: triton.TYPE_UINT32,
    TensorProto.UINT64: triton.TYPE_UINT64,
    TensorProto.INT8: triton.TYPE_INT8,
    TensorProto.INT16: triton.TYPE_INT16,
    TensorProto.INT32: triton.TYPE_INT32,
    TensorProto.INT64: triton.TYPE_INT64,
    TensorProto.FLOAT16: triton.TYPE_FP16,
    TensorProto.FLOAT: triton.TYPE_FP32,
    TensorProto.DOUBLE: triton.TYPE_FP64,
    TensorProto.STRING: triton.TYPE_STRING,
}
CONFIG = "config.pbtxt"
WILDCARD = -1
THREADS_PARAMETER = "intra_op_thread_count"
SHRINK_PARAMETER = "shrink_arena_from_bytes"
"""Parameter of this project's onnxruntime backend; Triton's C++ backend ignores it."""
PATTERN_PARAMETER = "enable_mem_pattern"
"""Parameter of both onnxruntime backends. onnxruntime keeps a pattern for each shape of the inputs for ever, and most
batches have a new one."""
NICE_PARAMETER, ENCODER_NICE = "nice", 5
"""Parameter of this project's onnxruntime backend: how far a model's process steps back for others on a busy CPU."""

_DECODER_QUEUES = 4
"""Queue of a decoder behind an encoder on a GPU, in queues of that encoder: refusing there wastes the encoder's work.

On a CPU, decoders are faster than encoders. They have no limit, because any limit makes Triton start batches later."""
MAX_BATCH_SIZES: dict[Target, int] = {"cpu": 8, "gpu": 64}
"""Default largest batch of a stage, in requests (docs/overload.md and docs/gpu.md)."""
_ENCODER_QUEUES: dict[Target, int] = {"cpu": 2, "gpu": 1}
"""Default queue of an encoder, in largest batches of each instance. 16 concurrent requests are never refused."""
_SHARED_QUEUES: dict[Target, int] = {"cpu": 8, "gpu": 4}
"""Queue of a shared stage, in largest batches. It fills only if features cost more than the encoder, as those of the
smallest models do, or if many recognizers share it."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Settings of how Triton runs a recognizer's stages.

    Attributes:
        max_batch_size: Largest batch of encoder and decoder, in requests.
        queue_delay_us: Longest wait for a fuller batch, in microseconds.
        max_queue_size: Longest queue of the encoder, in requests; 0 is unlimited and None the target's default.
        queue_seconds: Longest time in the encoder's queue; 0 is unlimited. With several instances of a model, a GPU
            each for example, a limit makes Triton use fewer and fewer of them. Source: issue 8870 of
            triton-inference-server/server, mended in July 2026.
        encoders: Concurrent instances of the encoder.
        encoder_threads: onnxruntime's threads per encoder instance on a CPU; 0 uses all cores.
        accelerator: Execution provider of the encoder on a GPU: "cuda" or "tensorrt".
        tensorrt: Settings of the accelerator "tensorrt".
        decoder_device: "gpu" runs the decoder on a GPU, if the server has one, and writes the text in another stage.
        target: Hardware that the graphs are tuned for.
        max_audio_seconds: Longest accepted audio; None takes what the model's memory allows, see `default_limit`.
    """

    max_batch_size: int = MAX_BATCH_SIZES["cpu"]
    queue_delay_us: int = 0
    max_queue_size: int | None = None
    queue_seconds: int = 0
    encoders: int = 1
    encoder_threads: int = 0
    accelerator: Accelerator = "cuda"
    tensorrt: TensorRt = field(default_factory=TensorRt)
    decoder_device: Literal["cpu", "gpu"] = "cpu"
    target: Target = "cpu"
    max_audio_seconds: int | None = None

    @classmethod
    def of(cls, target: Target) -> Serving:
        """The defaults for a target."""
        return cls(max_batch_size=MAX_BATCH_SIZES[target], target=target)

    @property
    def encoder_queue(self) -> int:
        """Longest queue of the encoder, in requests; 0 is unlimited."""
        if self.max_queue_size is not None:
            return self.max_queue_size
        return _ENCODER_QUEUES[self.target] * self.max_batch_size * self.encoders


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One graph to be served.

    Attributes:
        name: Name of the stage's model.
        graph: Graph with the inputs and outputs of the model.
        device: Device of the stage; "any" uses a GPU if the server has one.
        encodes: Whether the stage is the encoder, whose instances and threads can be chosen. Other stages have one of
            each.
        shared: Whether other recognizers use the stage too, so that its configuration must be the same for all.
        batches: Whether Triton joins requests. For a cheap stage without ragged inputs, its batcher only delays: it
            joins equal lengths, and all others wait in turn.
        step_rate: Steps per second of an encoder's input.
        target: Hardware that a shared stage is tuned for; its name says so.
        audio_format: Type of the samples that the stage is for; None if it serves all.
        recognizer: Name of the recognizer that the stage is for; None if it serves all of a checkpoint's.
    """

    name: str
    graph: onnx.ModelProto
    device: Literal["cpu", "any"]
    encodes: bool = False
    shared: bool = False
    batches: bool = True
    step_rate: int = 0
    target: Target = "cpu"
    audio_format: AudioFormat | None = None
    recognizer: str | None = None


def stage_config(stage: Stage, serving: Serving) -> triton.ModelConfig:
    """The configuration of a stage; inputs, outputs, dims and types are read from its graph."""
    serving = Serving.of(stage.target) if stage.shared else serving
    config = triton.ModelConfig(name=stage.name, backend="onnxruntime", max_batch_size=serving.max_batch_size)
    items, shapes = item_dims(stage.graph), ragged_shapes(stage.graph)
    for value in stage.graph.graph.input:
        if value.name in shapes:
            config.batch_input.add(
                kind=triton.BatchInput.BATCH_ITEM_SHAPE,
                target_name=[value.name],
                data_type=data_type(value),
                source_input=[shapes[value.name]],
            )
        elif value.name in items:
            config.input.add(
                name=value.name, data_type=data_type(value), dims=items[value.name], allow_ragged_batch=True
            )
        else:
            config.input.add(name=value.name, data_type=data_type(value), dims=dims(value)[1:])
    for value in stage.graph.graph.output:
        config.output.add(name=value.name, data_type=data_type(value), dims=dims(value)[1:])
    if stage.batches:
        config.dynamic_batching.CopyFrom(_batching(stage, serving))
    kind = triton.ModelInstanceGroup.KIND_CPU if stage.device == "cpu" else triton.ModelInstanceGroup.KIND_AUTO
    config.instance_group.add(count=serving.encoders if stage.encodes else 1, kind=kind)
    threads = serving.encoder_threads if stage.encodes else 1
    if threads:
        config.parameters[THREADS_PARAMETER].string_value = str(threads)
    if stage.encodes and serving.target == "cpu":
        # All others are short of work and short: a request is refused, or begins, while a batch runs.
        config.parameters[NICE_PARAMETER].string_value = str(ENCODER_NICE)
    config.parameters[PATTERN_PARAMETER].string_value = "0"
    config.parameters[SHRINK_PARAMETER].string_value = str(SHRINK_FROM_BYTES)
    if stage.device == "any":
        # By default PyTorch uses TF32 in convolutions too, but not in its FFT or an LSTM's products.
        use_cuda(config, tf32=stage.encodes)
        if stage.encodes and serving.accelerator == "tensorrt":
            use_tensorrt(config, serving.tensorrt, fp16=computes_in_fp16(stage.graph))
    return config


def _batching(stage: Stage, serving: Serving) -> triton.ModelDynamicBatching:
    batching = triton.ModelDynamicBatching(max_queue_delay_microseconds=serving.queue_delay_us)
    size = _queue_size(stage, serving)
    if size:
        batching.default_queue_policy.max_queue_size = size
    if stage.encodes and serving.queue_seconds:
        # Only there: a decoder that refused a request would waste the encoder's work.
        batching.default_queue_policy.default_timeout_microseconds = serving.queue_seconds * 1_000_000
    return batching


def _queue_size(stage: Stage, serving: Serving) -> int:
    if stage.shared:
        return _SHARED_QUEUES[serving.target] * serving.max_batch_size
    if stage.encodes:
        return serving.encoder_queue
    return _DECODER_QUEUES * serving.encoder_queue if serving.target == "gpu" else 0


def ensemble_config(
    name: str, steps: Sequence[triton.ModelConfig], outputs: Sequence[str], parameters: Mapping[str, str]
) -> triton.ModelConfig:
    """Wire steps by the names of their tensors: an output feeds every later input of its name.

    Args:
        name: Name of the ensemble.
        steps: Configurations of the ensemble's stages, in order.
        outputs: Names of tensors that clients can request. Triton (2.51) fails a request that names no output of the
            last step: it drops that step and still waits for it.
        parameters: Parameters of the configuration, which describe the model.
    """
    config = triton.ModelConfig(
        name=name, platform="ensemble", max_batch_size=min(step.max_batch_size for step in steps)
    )
    available = {output.name: output for step in steps for output in step.output}
    needed = {tensor.name for step in steps for tensor in step.input}
    for step in steps:
        wired = config.ensemble_scheduling.step.add(model_name=step.name, model_version=-1)
        for tensor in step.input:
            wired.input_map[tensor.name] = tensor.name
            if tensor.name not in available:
                config.input.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        for tensor in step.output:
            if tensor.name in needed or tensor.name in outputs:
                wired.output_map[tensor.name] = tensor.name
    for output in outputs:
        config.output.add(name=output, data_type=available[output].data_type, dims=available[output].dims)
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


def write_config(folder: Path, config: triton.ModelConfig) -> None:
    """Write a model's configuration into its folder."""
    (folder / CONFIG).write_text(text_format.MessageToString(config))


def read_config(folder: Path) -> triton.ModelConfig:
    """Read a model's configuration from its folder.

    Raises:
        ExportError: The file can't be read; the message names it.
    """
    file = folder / CONFIG
    try:
        return text_format.Parse(file.read_text(), triton.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ExportError(f"{file}: not readable as a configuration ({error}); export the model again") from error


def item_dims(graph: onnx.ModelProto) -> dict[str, list[int]]:
    """The dims of one item of each ragged input of a graph."""
    notes = {entry.key: entry.value for entry in graph.metadata_props}
    keys = {value.name: item_dims_key(value.name) for value in graph.graph.input}
    return {name: [int(dim) for dim in notes[key].split(",")] for name, key in keys.items() if key in notes}


def ragged_shapes(graph: onnx.ModelProto) -> dict[str, str]:
    """Names of the inputs with the shapes of ragged inputs -> names of those ragged inputs."""
    return {Tensor(name, "FP32", ()).shape.name: name for name in item_dims(graph)}


def dims(value: onnx.ValueInfoProto) -> list[int]:
    """Dims of a graph's input or output; -1 if the size varies."""
    return [dim.dim_value if dim.HasField("dim_value") else WILDCARD for dim in value.type.tensor_type.shape.dim]


def data_type(value: onnx.ValueInfoProto) -> int:
    """Triton's data type for a graph's input or output."""
    return int(TRITON_TYPES.get(value.type.tensor_type.elem_type, triton.TYPE_INVALID))
