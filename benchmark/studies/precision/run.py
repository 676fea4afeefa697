"""Checkpoints in each precision: sizes, speeds and words, side by side in one run.

    python -m benchmark.studies.precision.run demo/coffee_ctc.nemo=orders.jsonl --repository R --out docs/precision.md

Exports each CHECKPOINT into R in fp32, fp16 and int8, those that are not there yet, serves all of one checkpoint by
one server and asks them in turn for the recordings of its MANIFEST: once one at a time, for the texts, then many at
once in so many rounds. Beside them, as no export makes it: int8 with dynamic scales. Runs where tritonserver is;
exports run by --export-python.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console
from rich.progress import Progress
from tritonclient.grpc import model_config_pb2 as triton

from benchmark.baselines.errors import NotRun
from benchmark.baselines.recordings import read_recordings
from benchmark.baselines.served import Served
from benchmark.baselines.system import Measured, System, start
from benchmark.core.model_control import EXPLICIT
from benchmark.core.models import Model, RepositoryError, read_models
from benchmark.core.serving import serving
from benchmark.studies.batching.variants import write_variant
from benchmark.studies.precision.report import FULL, Exported, Measurement, page
from export_scripts.operators.tuning import Target
from export_scripts.precision.choice import PRECISIONS, PrecisionName
from nemo_triton.errors import one_line
from nemo_triton.loadtest.provenance import machine
from nemo_triton.loadtest.recording import Recording
from nemo_triton.terminal import options as cli

EXPORT = Path(__file__).parents[3] / "export_scripts" / "export.py"
DYNAMIC = "int8, dynamic"
ANY_CHANGE = "100%"
"""A bound for random weights, which say nothing of what a precision costs a trained model."""


@click.command(help=__doc__)
@click.argument("pairs", nargs=-1, required=True, metavar="CHECKPOINT=MANIFEST...")
@click.option("--repository", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--export-python", type=click.Path(path_type=Path), default=Path(".venv/export/bin/python"))
@click.option("--at-once", type=click.IntRange(2), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Markdown file to write.")
def precision(
    pairs: tuple[str, ...], repository: Path, export_python: Path, at_once: int, rounds: int, out: Path
) -> int:
    logging.disable(logging.WARNING)  # onnxruntime's advice on how to quantize.
    out.parent.mkdir(parents=True, exist_ok=True)
    measurements = []
    for pair in pairs:
        checkpoint, separator, manifest = pair.partition("=")
        if not separator:
            raise click.UsageError(f"{pair}: give CHECKPOINT=MANIFEST.")
        recordings = read_recordings(Path(manifest))
        models, refused = export_all(Path(checkpoint), repository, export_python)
        speech = Path(manifest).parent.name
        measurements.append(measure(models, refused, repository, speech, recordings, at_once, rounds))
    out.write_text(page(measurements, str(machine()["processor"])), encoding="utf-8")
    click.echo(out.read_text(encoding="utf-8"))
    return cli.EXIT_OK


def export_all(
    checkpoint: Path,
    repository: Path,
    python: Path,
    precisions: Sequence[PrecisionName] = PRECISIONS,
    target: Target = "cpu",
) -> tuple[dict[str, Model], dict[str, str]]:
    """The checkpoint's models by precision, exported where they are not there; and of those refused, why.

    precisions: fp32 first
    Raises RepositoryError where there is none in fp32.
    """
    models: dict[str, Model] = {}
    refused: dict[str, str] = {}
    for name in precisions:
        suffix = "" if name == FULL else f"_{name}"
        flags = ["--precision", name, "--name-suffix", suffix, "--target", target]
        if name != FULL and models[FULL].random_weights:
            flags += ["--max-word-change", ANY_CHANGE]
        reason = ""
        model = _find(repository, checkpoint.stem + suffix)
        if model is None:
            click.echo(f"{checkpoint.stem}: exports {name}", err=True)
            command = [str(python), str(EXPORT), str(checkpoint), "--repository", str(repository), *flags]
            done = subprocess.run(command, capture_output=True, text=True)
            reason = one_line(done.stderr).removeprefix("error: ")
            model = _find(repository, checkpoint.stem + suffix) if done.returncode == 0 else None
        if model:
            models[name] = model
        elif name == FULL:
            raise RepositoryError(f"{checkpoint}: can't be exported: {reason}")
        else:
            refused[name] = reason
    return models, refused


def _find(repository: Path, name: str) -> Model | None:
    if not repository.exists():
        return None
    try:
        return next((model for model in read_models(repository) if model.name == name), None)
    except RepositoryError:
        return None


def measure(
    models: Mapping[str, Model],
    refused: Mapping[str, str],
    repository: Path,
    speech: str,
    recordings: Sequence[Recording],
    at_once: int,
    rounds: int,
) -> Measurement:
    """All precisions in turn: a pass one at a time, then the rounds."""
    full = models[FULL]
    with ExitStack() as stack:
        variant = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_variant(repository, full.name, variant, dynamically)
        (in_variant,) = read_models(variant)
        loads = [f"--load-model={model.name}" for model in models.values()]
        server = stack.enter_context(serving(repository, [EXPLICIT, *loads]))
        other = stack.enter_context(serving(variant, [EXPLICIT, f"--load-model={full.name}"]))
        systems: list[System] = [Served(name, model.name, server.grpc, recordings) for name, model in models.items()]
        systems.append(Served(DYNAMIC, full.name, other.grpc, recordings))
        running, not_run = start(systems, recordings, stack)
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(full.name, total=len(running) * (rounds + 1))

            def one_pass(load: int) -> dict[str, Measured]:
                measured = {}
                for system in running:
                    measured[system.name] = system.measure(recordings, load)
                    progress.advance(task)
                return measured

            try:
                alone = one_pass(1)
                passes = [one_pass(at_once) for _ in range(rounds)]
            except NotRun as reason:
                raise click.ClickException(f"{full.name}: {reason}") from reason
    exported = {
        name: Exported(model.onnx_bytes, model.words_compared, model.words_changed) for name, model in models.items()
    }
    said = {one.utterance.name: one.utterance.text for one in recordings if one.utterance.text}
    return Measurement(
        model=full.name,
        random_weights=full.random_weights,
        speech=speech,
        audio_seconds=sum(recording.duration for recording in recordings),
        at_once=at_once,
        references=said,
        exported={**exported, DYNAMIC: Exported(in_variant.onnx_bytes)},
        alone=alone,
        rounds=passes,
        not_run={**refused, **not_run},
    )


def dynamically(config: triton.ModelConfig, graph: onnx.ModelProto) -> onnx.ModelProto:
    """An encoder with scales taken from each batch, as onnxruntime's quantize_dynamic makes them."""
    if not config.name.endswith("_encoder"):
        return graph
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dynamic.onnx"
        # onnxruntime has a dynamic convolution of unsigned numbers only.
        quantize_dynamic(
            graph,
            file,
            op_types_to_quantize=["Conv", "MatMul"],
            weight_type=QuantType.QUInt8,
            extra_options={"EnableSubgraph": True},
        )
        return onnx.load(file)


if __name__ == "__main__":
    cli.run(precision)
