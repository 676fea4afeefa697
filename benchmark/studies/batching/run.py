"""Compare methods to batch recordings of mixed lengths.

    python -m benchmark.studies.batching.run CHECKPOINT --repository R --speech read=manifest.jsonl --out batching.md

R holds the export of CHECKPOINT. Needs tritonserver (.venv/serve); NeMo runs with --nemo-python. Each round runs every
method once, in turn, on the same recordings: first with many concurrent requests, then one at a time. Speeds are
compared within each round. Writes a page with tables, and its chart next to it, for light and dark pages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from benchmark.baselines.errors import NotRun
from benchmark.baselines.in_process import InProcess
from benchmark.baselines.process import Process, baseline_command
from benchmark.baselines.recordings import shuffled_recordings
from benchmark.baselines.served import Served
from benchmark.baselines.system import Measured, System, start
from benchmark.core.constants import EXPORT_PYTHON
from benchmark.core.model_control import only
from benchmark.core.options import concurrency_option
from benchmark.studies.batching.chart import chart
from benchmark.studies.batching.report import markdown
from benchmark.studies.batching.sweep import NEMO, Sweep, concurrent_requests
from benchmark.studies.batching.variants import encoder_per_core, equal_shapes_only, without_batcher
from benchmark.studies.variants import write_variant
from nemo_triton.errors import ClientError
from nemo_triton.loadtest.recording import Recording
from nemo_triton.terminal import options
from server.process import running_server

PAD_TO_SECONDS = 10


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--repository",
    metavar="FOLDER",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="Model repository with the export of CHECKPOINT.",
)
@click.option(
    "--speech",
    "sets",
    multiple=True,
    required=True,
    metavar="NAME=MANIFEST",
    help="Recordings, and their name on the page. Repeat the option for several sets.",
)
@concurrency_option(32, "Concurrent requests of the first load. The second sends one at a time.", minimum=2)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Passes of each method. More rounds show the spread better.",
)
@click.option(
    "--nemo-python",
    metavar="PYTHON",
    type=click.Path(path_type=Path),
    default=EXPORT_PYTHON,
    show_default=True,
    help="Python with NeMo.",
)
@click.option("--note", default="", metavar="TEXT", help="A sentence about the model, for the page.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
def main(
    checkpoint: Path,
    repository: Path,
    sets: tuple[str, ...],
    concurrency: int,
    rounds: int,
    nemo_python: Path,
    note: str,
    out: Path,
) -> None:
    sweeps = []
    with Progress(console=Console(stderr=True)) as progress:
        for entry in sets:
            name, _, manifest = entry.partition("=")
            try:
                recordings = shuffled_recordings(Path(manifest))
            except ClientError as error:
                raise click.ClickException(str(error)) from error
            with running_methods(checkpoint, repository, recordings, nemo_python, concurrency) as (methods, not_run):
                for load in (concurrency, 1):
                    task = progress.add_task(f"{name}, {concurrent_requests(load)}", total=rounds)
                    passes = []
                    for _ in range(rounds):
                        passes.append(measure(methods, recordings, load))
                        progress.advance(task)
                    audio = sum(recording.duration for recording in recordings)
                    padding = {method.name: method.padding for method in methods}
                    sweeps.append(
                        Sweep(
                            speech=name,
                            recordings=len(recordings),
                            audio_seconds=audio,
                            concurrency=load,
                            padding=padding,
                            passes=passes,
                            not_run=not_run,
                        )
                    )
    drawn = chart(sweeps, out.stem)
    out.write_text(markdown(checkpoint.stem, note, sweeps, drawn))
    for name, svg in drawn.files().items():
        (out.parent / name).write_text(svg)
    click.echo(out.read_text())


@contextmanager
def running_methods(
    checkpoint: Path, repository: Path, recordings: Sequence[Recording], nemo_python: Path, concurrency: int
) -> Iterator[tuple[list[System], dict[str, str]]]:
    """Start all methods, ours first, and warm them up. Yields those that run, and the reasons of the others."""
    model = checkpoint.stem
    with ExitStack() as stack:
        variants = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_variant(repository, model, variants / "padded", equal_shapes_only)
        write_variant(repository, model, variants / "unbatched", without_batcher)
        write_variant(repository, model, variants / "encoders", encoder_per_core)

        def served(name: str, folder: Path, pad_to: int = 0) -> Served:
            server = stack.enter_context(running_server(folder, only(folder, model)))
            return Served(name, model, server.grpc, recordings, pad_to)

        methods = [
            served("served, any lengths in a batch", repository),
            InProcess(repository, model),
            served("served, one encoder per core", variants / "encoders"),
            served(f"served, clients pad to {PAD_TO_SECONDS} s", variants / "padded", PAD_TO_SECONDS),
            served("served, no batching", variants / "unbatched"),
            Process(NEMO, baseline_command(nemo_python, "nemo", checkpoint), recordings),
        ]
        yield start(methods, recordings, stack, concurrency=concurrency)


def measure(methods: Sequence[System], recordings: Sequence[Recording], concurrency: int) -> dict[str, Measured]:
    """Run each method once, in turn.

    Raises:
        ClickException: A method failed. Speeds are compared within whole rounds, so the study ends.
    """
    measured = {}
    for method in methods:
        try:
            measured[method.name] = method.measure(recordings, concurrency)
        except NotRun as reason:
            raise click.ClickException(f"{method.name}: {reason}") from reason
    return measured


if __name__ == "__main__":
    options.run(main)
