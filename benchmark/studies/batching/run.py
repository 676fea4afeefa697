"""Recordings of mixed lengths: our served models beside other ways to batch them, in one run.

    python -m benchmark.studies.batching.run CHECKPOINT --repository R --speech read=manifest.jsonl --out batching.md

R holds the export of CHECKPOINT. Runs where tritonserver is; NeMo runs by --nemo-python. All ways get the same
recordings in turn, in so many rounds, many at once and one at a time; ratios are taken round by round. The
chart goes beside the table, as .svg.
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
from benchmark.core.model_control import EXPLICIT
from benchmark.studies.batching.report import NEMO, Sweep, chart, markdown
from benchmark.studies.batching.variants import encoder_per_core, equal_shapes_only, without_batcher
from benchmark.studies.variants import write_variant
from nemo_triton.errors import ClientError
from nemo_triton.loadtest.recording import Recording
from server.process import running_server

PAD_TO_SECONDS = 10


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--repository", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--speech", "sets", multiple=True, required=True, metavar="NAME=MANIFEST")
@click.option("--at-once", type=click.IntRange(2), default=32, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--nemo-python", type=click.Path(path_type=Path), default=EXPORT_PYTHON)
@click.option("--note", default="", help="A sentence about the model, for the table.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Markdown file to write.")
def main(
    checkpoint: Path,
    repository: Path,
    sets: tuple[str, ...],
    at_once: int,
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
            with all_ways(checkpoint, repository, recordings, nemo_python) as (ways, not_run):
                for load in (at_once, 1):
                    task = progress.add_task(f"{name}, {load} at once", total=rounds)
                    passes = []
                    for _ in range(rounds):
                        passes.append(measure(ways, recordings, load))
                        progress.advance(task)
                    audio = sum(recording.duration for recording in recordings)
                    padding = {way.name: way.padding for way in ways}
                    sweeps.append(
                        Sweep(
                            speech=name,
                            recordings=len(recordings),
                            audio_seconds=audio,
                            at_once=load,
                            padding=padding,
                            passes=passes,
                            not_run=not_run,
                        )
                    )
    out.write_text(markdown(checkpoint.stem, note, sweeps, out.with_suffix(".svg").name))
    chart(sweeps, out.with_suffix(".svg"))
    click.echo(out.read_text())


@contextmanager
def all_ways(
    checkpoint: Path, repository: Path, recordings: Sequence[Recording], nemo_python: Path
) -> Iterator[tuple[list[System], dict[str, str]]]:
    """All ways, warmed up, the first of which is ours; and of those that don't run, why not."""
    model = checkpoint.stem
    with ExitStack() as stack:
        variants = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_variant(repository, model, variants / "padded", equal_shapes_only)
        write_variant(repository, model, variants / "unbatched", without_batcher)
        write_variant(repository, model, variants / "encoders", encoder_per_core)

        def served(name: str, folder: Path, pad_to: int = 0) -> Served:
            only = [EXPLICIT, f"--load-model={model}"]
            server = stack.enter_context(running_server(folder, only))
            return Served(name, model, server.grpc, recordings, pad_to)

        ways = [
            served("served, any lengths in a batch", repository),
            InProcess(repository, model),
            served("served, an encoder a core", variants / "encoders"),
            served(f"served, clients pad to {PAD_TO_SECONDS} s", variants / "padded", PAD_TO_SECONDS),
            served("served, no batches", variants / "unbatched"),
            Process(NEMO, baseline_command(nemo_python, "nemo", checkpoint), recordings),
        ]
        yield start(ways, recordings, stack)


def measure(ways: Sequence[System], recordings: Sequence[Recording], at_once: int) -> dict[str, Measured]:
    """Each way once, in turn.

    Raises ClickException where one that was warmed up fails now: ratios are of whole rounds.
    """
    measured = {}
    for way in ways:
        try:
            measured[way.name] = way.measure(recordings, at_once)
        except NotRun as reason:
            raise click.ClickException(f"{way.name}: {reason}") from reason
    return measured


if __name__ == "__main__":
    main()
