"""Compare bounded with unlimited queues under overload.

    python -m benchmark.studies.overload.run MODEL --repository R --manifest manifest.jsonl --out overload.md

Each round starts a server with each queue, in turn: single requests, then the capacity in a closed loop, then an open
loop at several times the capacity whose requests have a deadline, then one request and the closed loop again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from benchmark.core.model_control import EXPLICIT
from benchmark.core.options import concurrency_option
from benchmark.core.run_bench import Bench
from benchmark.studies.overload.measure import Measured, Overload, measure
from benchmark.studies.overload.report import markdown
from benchmark.studies.variants import Change, Step, each_step, read_variant, write_variant
from nemo_triton.audio import load_audio
from nemo_triton.contract import Part
from nemo_triton.errors import ClientError
from nemo_triton.manifest import read_manifest
from nemo_triton.terminal import options
from server.process import running_server

AS_EXPORTED, UNLIMITED = "as exported", "unlimited"


@click.command(help=__doc__)
@click.argument("model")
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Repository with MODEL."
)
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), required=True, help="Recordings to send.")
@click.option("--factor", type=float, default=3.0, show_default=True, help="Rate of the overload, in capacities.")
@click.option("--deadline", type=float, default=5.0, show_default=True, help="Deadline of each request, in seconds.")
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Duration of each load.")
@concurrency_option(24, "Concurrent requests that find the capacity.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds of all queues.")
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
    queues: dict[str, Change] = {AS_EXPORTED: each_step(lambda step: None), UNLIMITED: each_step(_unlimited)}
    measured: list[dict[str, Measured]] = []
    accepted = {AS_EXPORTED: _accepted(repository, model), UNLIMITED: 0}
    with tempfile.TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        variants = {name: Path(folder) / f"queue_{number}" for number, name in enumerate(queues)}
        for name, change in queues.items():
            write_variant(repository, model, variants[name], change)
        task = progress.add_task("overload", total=rounds * len(queues))
        for _ in range(rounds):
            measured.append({})
            for name in queues:
                with running_server(variants[name], [EXPLICIT, f"--load-model={model}"]) as server:
                    metrics = f"http://{server.metrics}/metrics"
                    bench = Bench(model=model, url=server.grpc, manifest=manifest, metrics_url=metrics)
                    measured[-1][name] = measure(bench, overload, clip, Path(folder))
                progress.advance(task)
    page = markdown(model, note, overload, measured, accepted)
    out.write_text(page)
    click.echo(page)


def _unlimited(step: Step) -> None:
    step.config.dynamic_batching.ClearField("default_queue_policy")


def _accepted(repository: Path, model: str) -> int:
    """Most requests in the encoder's running batch and its queue; 0 is unlimited."""
    (encoder,) = [
        step.config for step in read_variant(repository, model).steps if step.config.name == Part.ENCODER.of(model)
    ]
    queue = int(encoder.dynamic_batching.default_queue_policy.max_queue_size)
    return queue + encoder.max_batch_size * encoder.instance_group[0].count if queue else 0


if __name__ == "__main__":
    options.run(main)
