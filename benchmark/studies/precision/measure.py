"""Serve all precisions of one checkpoint, and measure them in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console
from rich.progress import Progress

from benchmark.baselines.errors import NotRun
from benchmark.baselines.served import Served
from benchmark.baselines.system import Measured, System, start
from benchmark.core.model_control import only
from benchmark.core.models import Model, read_models
from benchmark.core.serving import serving
from benchmark.studies.exports import FULL
from benchmark.studies.precision.report import Exported, Measurement
from benchmark.studies.variants import Step, each_step, write_variant
from nemo_triton.contract import Part
from nemo_triton.loadtest.recording import Recording

DYNAMIC = "int8, dynamic"


def measure(
    models: Mapping[str, Model],
    repository: Path,
    recordings: Sequence[Recording],
    *,
    speech: str,
    concurrency: int,
    rounds: int,
    refused: Mapping[str, str],
) -> Measurement:
    """Measure all precisions in turn: one pass with single requests, then rounds with concurrent requests.

    Args:
        models: Models by precision, including fp32.
        repository: Model repository with these models.
        recordings: Recordings to transcribe.
        speech: Name of the recordings.
        concurrency: Concurrent requests in the rounds.
        rounds: Number of passes with concurrent requests.
        refused: Reasons of failed exports, by precision.

    Raises:
        ClickException: A precision failed during a pass.
    """
    full = models[FULL]
    with ExitStack() as stack:
        variant = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_variant(repository, full.name, variant, each_step(quantize_encoder_dynamically))
        (in_variant,) = read_models(variant)
        names = [model.name for model in models.values()]
        server = stack.enter_context(serving(repository, only(repository, *names)))
        variant_server = stack.enter_context(serving(variant, only(variant, full.name)))
        systems: list[System] = [Served(name, model.name, server.grpc, recordings) for name, model in models.items()]
        systems.append(Served(DYNAMIC, full.name, variant_server.grpc, recordings))
        running, not_run = start(systems, recordings, stack, concurrency=concurrency)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(full.name, total=len(running) * (rounds + 1))

            def advance() -> None:
                progress.advance(task)

            try:
                unbatched = _one_pass(running, recordings, 1, advance)
                passes = [_one_pass(running, recordings, concurrency, advance) for _ in range(rounds)]
            except NotRun as reason:
                raise click.ClickException(f"{full.name}: {reason}") from reason
    exported = {name: Exported.of(model) for name, model in models.items()}
    return Measurement(
        model=full.name,
        random_weights=full.random_weights,
        speech=speech,
        audio_seconds=sum(recording.duration for recording in recordings),
        concurrency=concurrency,
        references=_references(recordings),
        exported={**exported, DYNAMIC: Exported(in_variant.onnx_bytes)},
        unbatched=unbatched,
        rounds=passes,
        not_run={**refused, **not_run},
    )


def _references(recordings: Sequence[Recording]) -> dict[str, str]:
    """Reference transcripts, by audio file, of the recordings that have one."""
    utterances = (recording.utterance for recording in recordings)
    return {utterance.name: utterance.text for utterance in utterances if utterance.text}


def _one_pass(
    systems: Sequence[System], recordings: Sequence[Recording], concurrency: int, advance: Callable[[], None]
) -> dict[str, Measured]:
    """Run each system once, in turn, and call `advance` after each."""
    passes = {}
    for system in systems:
        passes[system.name] = system.measure(recordings, concurrency)
        advance()
    return passes


def quantize_encoder_dynamically(step: Step) -> None:
    """Quantize the encoder with onnxruntime's quantize_dynamic, which takes its scales from each batch."""
    if not step.config.name.endswith(Part.ENCODER.value):
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dynamic.onnx"
        # onnxruntime's dynamic convolution supports only unsigned weights.
        quantize_dynamic(
            onnx.load(step.graph_file),
            file,
            op_types_to_quantize=["Conv", "MatMul"],
            weight_type=QuantType.QUInt8,
            extra_options={"EnableSubgraph": True},
        )
        step.graph = onnx.load(file)
