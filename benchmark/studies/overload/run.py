"""Compare batches and queues of different sizes under overload.

    python -m benchmark.studies.overload.run MODEL --repository R --manifest manifest.jsonl --out overload.md

Each round starts a server with each setting, in turn: single requests, then the capacity in a closed loop, then an open
loop at several times the capacity whose requests have a deadline, then one request and the closed loop again.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from benchmark.core.model_control import EXPLICIT
from benchmark.core.options import concurrency_option
from benchmark.core.run_bench import Bench
from benchmark.studies.overload.measure import Measured, Overload, measure
from benchmark.studies.overload.report import Limits, markdown
from benchmark.studies.variants import Change, Step, each_step, read_variant, write_variant
from export_scripts.repository.config import THREADS_PARAMETER
from nemo_triton.audio import load_audio
from nemo_triton.contract import Part
from nemo_triton.errors import ClientError
from nemo_triton.manifest import read_manifest
from nemo_triton.terminal import options
from server.process import running_server

AS_EXPORTED, LARGER, TWO_ENCODERS = "as exported", "batches twice as large", "two encoders"
WAITING, UNLIMITED = "as exported, clients wait", "unlimited queue"


@click.command(help=__doc__)
@click.argument("model")
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Repository with MODEL."
)
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), required=True, help="Recordings to send.")
@click.option("--factor", type=float, default=3.0, show_default=True, help="Rate of the overload, in limits.")
@click.option("--deadline", type=float, default=5.0, show_default=True, help="Deadline of each request, in seconds.")
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Duration of each load.")
@concurrency_option(24, "Concurrent requests that find the capacity.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds of all settings.")
@click.option("--note", default="", metavar="TEXT", help="A sentence about the model, for the page.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
def main(
    model: str,
    repository: Path,
    manifest: Path,
    factor: float,
    deadline: float,
    seconds: float,
    concurrency: int,
    rounds: int,
    note: str,
    out: Path,
) -> None:
    overload = Overload(factor=factor, deadline=deadline, seconds=seconds, concurrency=concurrency)
    try:
        clip = load_audio(read_manifest(manifest).utterances[0].audio)
    except ClientError as error:
        raise click.ClickException(str(error)) from error
    settings: dict[str, Change] = {
        AS_EXPORTED: each_step(lambda step: None),
        WAITING: each_step(lambda step: None),
        LARGER: each_step(lambda step: _double_batches(step) if _encodes(step) else None),
        TWO_ENCODERS: each_step(lambda step: _two_instances(step) if _encodes(step) else None),
        UNLIMITED: each_step(_remove_limits),
    }
    measured: list[dict[str, Measured]] = []
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        variants = {name: Path(folder) / f"queue_{number}" for number, name in enumerate(settings)}
        for name, change in settings.items():
            write_variant(repository, model, variants[name], change)
        limits = {name: _limits(variant, model) for name, variant in variants.items()}
        task = progress.add_task("overload", total=rounds * len(settings))
        for _ in range(rounds):
            measured.append({})
            for name in settings:
                flags = ["--wait-for-room"] if name == WAITING else []
                with running_server(variants[name], [EXPLICIT, f"--load-model={model}"]) as server:
                    metrics = f"http://{server.metrics}/metrics"
                    bench = Bench(model=model, url=server.grpc, manifest=manifest, metrics_url=metrics)
                    measured[-1][name] = measure(bench, overload, flags, clip, Path(folder))
                progress.advance(task)
    page = markdown(model, note, overload, measured, limits)
    out.write_text(page)
    click.echo(page)


def _double_batches(step: Step) -> None:
    step.config.max_batch_size *= 2


def _two_instances(step: Step) -> None:
    step.config.instance_group[0].count = 2
    step.config.parameters[THREADS_PARAMETER].string_value = str(max(len(os.sched_getaffinity(0)) // 2, 1))


def _encodes(step: Step) -> bool:
    return str(step.config.name).endswith(Part.ENCODER.value)


def _remove_limits(step: Step) -> None:
    step.config.dynamic_batching.ClearField("default_queue_policy")


def _limits(repository: Path, model: str) -> Limits:
    (encoder,) = [step.config for step in read_variant(repository, model).steps if _encodes(step)]
    return Limits(
        batch=encoder.max_batch_size * encoder.instance_group[0].count,
        queue=int(encoder.dynamic_batching.default_queue_policy.max_queue_size),
    )


if __name__ == "__main__":
    options.run(main)
