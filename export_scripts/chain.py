"""A checkpoint as the chain of stages that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from export_scripts.checkpoints.checkpoint import Checkpoint
from export_scripts.operators.tuning import TUNINGS, Target
from export_scripts.precision.choice import FP32, Precision
from export_scripts.precision.convert import conversion
from export_scripts.repository.config import Serving, Stage, ensemble_config, stage_config
from export_scripts.repository.gpu import warm_up, write_files
from export_scripts.repository.names import AUDIO, Part, features_name
from export_scripts.repository.publish import write_model
from export_scripts.stages.audio import audio_graph
from export_scripts.stages.encoder import Conversion, unchanged
from export_scripts.stages.features import features_graph
from export_scripts.stages.text import TRANSCRIPT, split_text


def write_recognizer(
    folder: Path,
    checkpoint: Checkpoint,
    serving: Serving,
    precision: Precision = FP32,
    prepare: Conversion = unchanged,
) -> None:
    """Write the stages and the ensemble `checkpoint.name`, and of a CTC model one with log-probs, into `folder`.

    prepare: done to the traced encoder before it is put into its precision

    Two, because Triton asks a step for every output that its ensemble names, wanted or not: in one,
    each request would pay for copying log-probs that few ask for.
    """
    configs = []
    for stage in _stages(checkpoint, serving, precision, prepare):
        config = stage_config(stage, serving)
        warms_up = stage.encodes and stage.device == "any" and serving.accelerator == "tensorrt"
        files = warm_up(config, serving.tensorrt.lengths, stage.step_rate) if warms_up else {}
        write_model(folder, config, stage.graph)
        write_files(folder / config.name, files)
        configs.append(config)
    description = _description(checkpoint, precision, serving.target)
    for name, outputs in ensembles(checkpoint).items():
        write_model(folder, ensemble_config(name, configs, outputs, description), graph=None)


def ensembles(checkpoint: Checkpoint) -> dict[str, tuple[str, ...]]:
    """The ensembles of a recognizer by name, and their outputs."""
    decoder, result = checkpoint.decoder, {checkpoint.name: TRANSCRIPT}
    if decoder.scores_are_asked_for:
        result[Part.LOG_PROBS.of(checkpoint.name)] = (*TRANSCRIPT, decoder.scores, decoder.length)
    return result


def _stages(checkpoint: Checkpoint, serving: Serving, precision: Precision, prepare: Conversion) -> Iterator[Stage]:
    front_end, decoder = checkpoint.front_end, checkpoint.decoder
    tuning = TUNINGS[serving.target]
    yield Stage(AUDIO, audio_graph(front_end.sample_rate), device="cpu", shared=True)
    features = features_name(front_end.name, serving.target)
    yield Stage(features, features_graph(front_end, tuning), device="any", shared=True, target=serving.target)
    convert = conversion(precision, front_end)
    # onnxruntime computes in 8 bits on CPUs only.
    device: Literal["cpu", "any"] = "cpu" if precision.name == "int8" else "any"
    encoder = decoder.encoder_graph(
        front_end.mels,
        front_end.frame_rate,
        lambda traced: convert(prepare(traced)),
        tuning,
    )
    yield Stage(Part.ENCODER.of(checkpoint.name), encoder, device, encodes=True, step_rate=front_end.frame_rate)
    decoder_graph = decoder.decoder_graph(checkpoint.pieces)
    if serving.decoder_device == "cpu":
        yield Stage(Part.DECODER.of(checkpoint.name), decoder_graph, device="cpu")
        return
    decoder_graph, text_graph = split_text(decoder_graph)
    yield Stage(Part.DECODER.of(checkpoint.name), decoder_graph, device="any")
    yield Stage(Part.TEXT.of(checkpoint.name), text_graph, device="cpu")


def _description(checkpoint: Checkpoint, precision: Precision, target: Target) -> dict[str, str]:
    """What a client may want to know of the model."""
    front_end = checkpoint.front_end
    frame_seconds = front_end.hop_length / front_end.sample_rate * checkpoint.model.encoder.subsampling_factor
    return {
        "sample_rate": str(front_end.sample_rate),
        "frame_seconds": f"{frame_seconds:g}",
        "nemo_class": checkpoint.model_class,
        "nemo_version": checkpoint.nemo_version or "unknown",
        "parameters": str(sum(weights.numel() for weights in checkpoint.model.parameters())),
        "checkpoint_bytes": str(checkpoint.file.stat().st_size),
        "weights": "random" if checkpoint.random_weights else "trained",
        "precision": precision.name,
        "target": target,
    }
