"""Recordings of mixed lengths: our served models beside other ways to batch them, in one run.

    python benchmark/batching/run.py CHECKPOINT --repository R --speech read=read/manifest.jsonl --out docs/batching.md

R holds the export of CHECKPOINT. Runs where tritonserver is; NeMo runs by --nemo-python. All ways get the same
recordings in turn, in so many rounds, many at once and one at a time; ratios are taken round by round. The
chart goes beside the table, as .svg.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from report import Sweep, chart, markdown
from rich.console import Console
from rich.progress import Progress
from variants import an_encoder_a_core, equal_shapes_only, without_batcher, write_variant
from ways import InProcess, Measured, Nemo, Served, Way

from client.audio import load_audio
from client.load import Recording
from client.manifest import read_manifest
from server.process import running_server

PAD_TO_SECONDS = 10


@click.command(help=__doc__)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--repository", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--speech", "sets", multiple=True, required=True, metavar="NAME=MANIFEST")
@click.option("--at-once", type=click.IntRange(2), default=32, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--nemo-python", type=click.Path(path_type=Path), default=Path(".venv/export/bin/python"))
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
            recordings = read_recordings(Path(manifest))
            with all_ways(checkpoint, repository, recordings, nemo_python) as ways:
                for load in (at_once, 1):
                    task = progress.add_task(f"{name}, {load} at once", total=rounds * len(ways))
                    passes = []
                    for _ in range(rounds):
                        passes.append(measure(ways, recordings, load))
                        progress.advance(task, len(ways))
                    audio = sum(recording.duration for recording in recordings)
                    sweeps.append(
                        Sweep(name, len(recordings), audio, load, {way.name: way.padding for way in ways}, passes)
                    )
    out.write_text(markdown(checkpoint.stem, note, sweeps, out.with_suffix(".svg").name))
    chart(sweeps, out.with_suffix(".svg"))
    click.echo(out.read_text())


def read_recordings(manifest: Path) -> list[Recording]:
    """In random order, as clients ask."""
    listed = read_manifest(manifest)
    if listed.problems:
        raise click.ClickException(listed.problems[0])
    recordings = [Recording(utterance, load_audio(utterance.audio)) for utterance in listed.utterances]
    return random.Random(0).sample(recordings, len(recordings))


@contextmanager
def all_ways(
    checkpoint: Path, repository: Path, recordings: Sequence[Recording], nemo_python: Path
) -> Iterator[list[Way]]:
    """All ways, warmed up: the first is ours, the last is NeMo."""
    model = checkpoint.stem
    with ExitStack() as stack:
        variants = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_variant(repository, model, variants / "padded", equal_shapes_only)
        write_variant(repository, model, variants / "unbatched", without_batcher)
        write_variant(repository, model, variants / "encoders", an_encoder_a_core)

        def served(name: str, folder: Path, pad_to: int = 0) -> Served:
            only = ["--model-control-mode=explicit", f"--load-model={model}"]
            server = stack.enter_context(running_server(folder, only))
            return Served(name, model, server.grpc, recordings, pad_to)

        ways: list[Way] = [
            served("served, any lengths in a batch", repository),
            InProcess(repository, model),
            served("served, an encoder a core", variants / "encoders"),
            served(f"served, clients pad to {PAD_TO_SECONDS} s", variants / "padded", PAD_TO_SECONDS),
            served("served, no batches", variants / "unbatched"),
            stack.enter_context(Nemo(nemo_python, checkpoint, recordings)),
        ]
        measure(ways, recordings, 2)
        yield ways


def measure(ways: Sequence[Way], recordings: Sequence[Recording], at_once: int) -> dict[str, Measured]:
    """Each way once, in turn."""
    return {way.name: way.measure(recordings, at_once) for way in ways}


if __name__ == "__main__":
    main()
