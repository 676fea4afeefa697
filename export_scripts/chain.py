"""The stages that serve a checkpoint, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.checkpoints.activations import measure_activations
from export_scripts.checkpoints.checkpoint import Checkpoint
from export_scripts.checkpoints.families import Decoder
from export_scripts.operators.tuning import TUNINGS, Target, Tuning
from export_scripts.operators.weights import LARGEST_GRAPH
from export_scripts.precision.choice import FP32, RULES, Precision, PrecisionName
from export_scripts.precision.convert import conversion
from export_scripts.repository.audio_limit import Footprint, default_limit
from export_scripts.repository.config import Serving, Stage, ensemble_config, stage_config
from export_scripts.repository.gpu import warm_up, write_files
from export_scripts.repository.publish import write_model
from export_scripts.stages.audio import audio_graph
from export_scripts.stages.encoder import Conversion, EncoderOptions, encoder_graph, unchanged
from export_scripts.stages.features import features_graph
from export_scripts.stages.text import split_text
from nemo_triton.contract import (
    AUDIO_FORMATS,
    FLOAT_AUDIO,
    INT16_AUDIO,
    TRANSCRIPT,
    AudioFormat,
    Description,
    Part,
    Tensor,
    audio_stage,
)


def write_recognizer(
    folder: Path,
    checkpoint: Checkpoint,
    serving: Serving,
    precision: Precision = FP32,
    *,
    prepare: Conversion = unchanged,
    largest_graph: int = LARGEST_GRAPH,
) -> Description:
    """Write the stages and ensembles of a checkpoint's recognizers into `folder`.

    A recognizer has an ensemble for each type of samples: an input of a model has a single type. They have their own
    first two stages and share the others. A CTC recognizer gets the same ensembles again, with log-probs.
    Triton computes every output of an ensemble, requested or not, so with a single ensemble each request would pay for
    copying log-probs.

    Args:
        folder: Folder that gets one subfolder per model.
        checkpoint: Checkpoint to write.
        serving: Settings of how Triton runs the stages.
        precision: Precision of the encoder.
        prepare: Change of the traced encoder, before its conversion to the precision.
        largest_graph: Most bytes of float32 weights that the encoder's graph holds. Those of larger encoders lie in
            files during the export, and in a file beside the graph in the repository, in any precision.

    Returns:
        What the recognizers' configurations say about them.
    """
    configs: list[tuple[triton.ModelConfig, Stage]] = []
    in_file = checkpoint.encoder_bytes > largest_graph
    footprint = _footprint(checkpoint, serving.encoders, weights_in_file=in_file)
    max_seconds = serving.max_audio_seconds or default_limit(footprint)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".weights-", dir=folder) as name:
        weights = Path(name) if in_file else None
        for stage in _stages(checkpoint, serving, precision, prepare, max_seconds, weights):
            config = stage_config(stage, serving)
            warms_up = stage.encodes and stage.device == "any" and serving.accelerator == "tensorrt"
            files = warm_up(config, serving.tensorrt.lengths, stage.step_rate) if warms_up else {}
            write_model(folder, config, stage.graph)
            write_files(folder / config.name, files)
            configs.append((config, stage))
    description = replace(
        _description(checkpoint, precision, serving.target),
        max_audio_seconds=max_seconds,
        memory_bytes=footprint.memory(max_seconds),
        shared_memory_bytes=footprint.shared_memory(max_seconds),
    )
    parameters = description.as_parameters()
    for recognizer, decoder in checkpoint.recognizers.items():
        for name, ensemble in ensembles(recognizer, decoder).items():
            names = [tensor.name for tensor in ensemble.outputs]
            steps = [config for config, stage in configs if ensemble.has(stage)]
            write_model(folder, ensemble_config(name, steps, names, parameters), graph=None)
    return description


@dataclass(frozen=True)
class Ensemble:
    """One of a recognizer's ensembles.

    Attributes:
        recognizer: Name of the recognizer.
        audio_format: Type of the samples that it takes.
        outputs: Its outputs.
    """

    recognizer: str
    audio_format: AudioFormat
    outputs: tuple[Tensor, ...]

    def has(self, stage: Stage) -> bool:
        """Whether the stage is one of its steps."""
        return stage.recognizer in (None, self.recognizer) and stage.audio_format in (None, self.audio_format)


def ensembles(name: str, decoder: Decoder) -> dict[str, Ensemble]:
    """A recognizer's ensembles by name."""
    transcript = (*TRANSCRIPT, *decoder.further_outputs)
    written = {
        name: Ensemble(name, INT16_AUDIO, transcript),
        Part.FLOAT.of(name): Ensemble(name, FLOAT_AUDIO, transcript),
    }
    if decoder.scores_are_served:
        outputs = (*transcript, decoder.encoder_output, decoder.encoder_length)
        written[Part.LOG_PROBS.of(name)] = Ensemble(name, INT16_AUDIO, outputs)
        written[Part.FLOAT_LOG_PROBS.of(name)] = Ensemble(name, FLOAT_AUDIO, outputs)
    return written


def _stages(
    checkpoint: Checkpoint,
    serving: Serving,
    precision: Precision,
    prepare: Conversion,
    max_seconds: int,
    weights: Path | None,
) -> Iterator[Stage]:
    name, front_end, target = checkpoint.name, checkpoint.front_end, serving.target
    tuning = tuning_of(target, precision.name)
    for audio_format in AUDIO_FORMATS:
        yield Stage(
            name=audio_stage(max_seconds, audio_format),
            graph=audio_graph(front_end.sample_rate, max_seconds, audio_format),
            device="cpu",
            shared=True,
            batches=False,
            audio_format=audio_format,
        )
        yield Stage(
            name=front_end.stage_name(target, audio_format),
            graph=features_graph(front_end, tuning, audio_format),
            device="any",
            shared=True,
            target=target,
            audio_format=audio_format,
        )
    convert = conversion(precision, front_end)
    options = EncoderOptions(
        mels=front_end.mels,
        frame_rate=front_end.frame_rate,
        convert=lambda traced: convert(prepare(traced)),
        tuning=tuning.up_to(max_seconds),
        weights=weights,
    )
    encoder = encoder_graph(checkpoint.model.encoder, [decoder.head() for decoder in checkpoint.decoders], options)
    device: Literal["cpu", "any"] = "cpu" if RULES[precision.name].cpu_only else "any"
    yield Stage(name=Part.ENCODER.of(name), graph=encoder, device=device, encodes=True, step_rate=front_end.frame_rate)
    for recognizer, decoder in checkpoint.recognizers.items():
        yield from _decoder_stages(recognizer, decoder.decoder_graph(checkpoint.pieces), serving)


def _decoder_stages(recognizer: str, decoder: onnx.ModelProto, serving: Serving) -> Iterator[Stage]:
    name, text_name = Part.DECODER.of(recognizer), Part.TEXT.of(recognizer)
    if serving.decoder_device == "cpu":
        yield Stage(name=name, graph=decoder, device="cpu", recognizer=recognizer)
        return
    without_text, text = split_text(decoder)
    yield Stage(name=name, graph=without_text, device="any", recognizer=recognizer)
    yield Stage(name=text_name, graph=text, device="cpu", recognizer=recognizer)


def tuning_of(target: Target, precision: PrecisionName) -> Tuning:
    """The tuning of an export."""
    tuning = TUNINGS[target]
    # int8 would quantise the rotated attention's products of weights as if they were activations.
    return replace(tuning, rotated_attention=False) if precision == "int8" else tuning


def _footprint(checkpoint: Checkpoint, encoders: int, *, weights_in_file: bool) -> Footprint:
    front_end, activations = checkpoint.front_end, measure_activations(checkpoint)
    samples = np.dtype(np.int16).itemsize * front_end.sample_rate
    features = np.dtype(np.float32).itemsize * front_end.mels * front_end.frame_rate
    return Footprint(
        weights=checkpoint.encoder_bytes,
        weights_in_file=weights_in_file,
        encoders=encoders,
        largest_layer=activations.largest_layer,
        features=features,
        tensors=samples + features + activations.scores,
    )


def _description(checkpoint: Checkpoint, precision: Precision, target: Target) -> Description:
    front_end = checkpoint.front_end
    return Description(
        sample_rate=front_end.sample_rate,
        frame_seconds=front_end.hop_length / front_end.sample_rate * checkpoint.model.encoder.subsampling_factor,
        nemo_class=checkpoint.model_class,
        nemo_version=checkpoint.nemo_version or "unknown",
        parameters=sum(weights.numel() for weights in checkpoint.model.parameters()),
        checkpoint_bytes=checkpoint.file.stat().st_size,
        weights="random" if checkpoint.random_weights else "trained",
        precision=precision.name,
        target=target,
    )
