"""All precisions of one checkpoint, served and measured in turn."""

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
from benchmark.core.model_control import EXPLICIT
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
    at_once: int,
    rounds: int,
    refused: Mapping[str, str],
) -> Measurement:
    """All precisions in turn: a pass one at a time, then the rounds.

    Args:
        models: by precision, fp32 among them
        repository: that has them
        recordings: to transcribe
        speech: name of the recordings
        at_once: requests at a time in the rounds
        rounds: how many
        refused: by precision, why it could not be exported

    Raises:
        ClickException: a system that was warmed up fails.
    """
    full = models[FULL]
    with ExitStack() as stack:
        variant = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_variant(repository, full.name, variant, each_step(quantize_encoder_dynamically))
        (in_variant,) = read_models(variant)
        loads = [f"--load-model={model.name}" for model in models.values()]
        server = stack.enter_context(serving(repository, [EXPLICIT, *loads]))
        other = stack.enter_context(serving(variant, [EXPLICIT, f"--load-model={full.name}"]))
        systems: list[System] = [Served(name, model.name, server.grpc, recordings) for name, model in models.items()]
        systems.append(Served(DYNAMIC, full.name, other.grpc, recordings))
        running, not_run = start(systems, recordings, stack)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(full.name, total=len(running) * (rounds + 1))

            def advance() -> None:
                progress.advance(task)

            try:
                alone = _one_pass(running, recordings, 1, advance)
                passes = [_one_pass(running, recordings, at_once, advance) for _ in range(rounds)]
            except NotRun as reason:
                raise click.ClickException(f"{full.name}: {reason}") from reason
    exported = {name: Exported.of(model) for name, model in models.items()}
    return Measurement(
        model=full.name,
        random_weights=full.random_weights,
        speech=speech,
        audio_seconds=sum(recording.duration for recording in recordings),
        at_once=at_once,
        references=_references(recordings),
        exported={**exported, DYNAMIC: Exported(in_variant.onnx_bytes)},
        alone=alone,
        rounds=passes,
        not_run={**refused, **not_run},
    )


def _references(recordings: Sequence[Recording]) -> dict[str, str]:
    """What is said in each recording that has a transcript."""
    utterances = (recording.utterance for recording in recordings)
    return {utterance.name: utterance.text for utterance in utterances if utterance.text}


def _one_pass(
    systems: Sequence[System], recordings: Sequence[Recording], at_once: int, measured: Callable[[], None]
) -> dict[str, Measured]:
    """Each system once, in turn; `measured` is called after each."""
    passes = {}
    for system in systems:
        passes[system.name] = system.measure(recordings, at_once)
        measured()
    return passes


def quantize_encoder_dynamically(step: Step) -> None:
    """Take the encoder's scales from each batch, as onnxruntime's quantize_dynamic does."""
    if not step.config.name.endswith(Part.ENCODER.value):
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dynamic.onnx"
        # onnxruntime has a dynamic convolution of unsigned numbers only.
        quantize_dynamic(
            onnx.load(step.graph_file),
            file,
            op_types_to_quantize=["Conv", "MatMul"],
            weight_type=QuantType.QUInt8,
            extra_options={"EnableSubgraph": True},
        )
        step.graph = onnx.load(file)
