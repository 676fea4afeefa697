"""Compare settings of glibc's malloc: CPU time and memory of a server under audio of mixed lengths.

    python -m benchmark.studies.malloc_settings MODEL... --repository R [--hollow]

Each round starts a server with each setting, in turn, and sends it the same recordings: once without timing, then
REPEATS times. Prints medians, and their ratios to the setting that is first within the same round.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmark.core.model_control import only
from benchmark.core.serving import serving
from benchmark.core.tables import spread
from benchmark.studies.hollow import hollow
from benchmark.studies.variants import write_variant
from export_scripts.errors import ExportError
from nemo_triton.audio import Samples
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import RecognizerError
from nemo_triton.loadtest.recording import read_recordings
from nemo_triton.terminal import options
from server.launch import MALLOC, MALLOC_ON_GPUS
from verification.attack.footprint import footprint
from verification.concurrent_requests import send_concurrently
from verification.faults.clips import make_clips

CLIPS = 64
LONGEST_SECONDS = 60.0
REPEATS = 4
REQUEST_SECONDS = 600.0
MIB = 2**20

NONE = dict.fromkeys(MALLOC_ON_GPUS, "")
"""The launcher drops empty settings, and adds its own for variables that are not set."""
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "glibc's own": NONE,
    "for CPUs": {**NONE, **MALLOC},
    "for GPUs": MALLOC_ON_GPUS,
}
"""Environment of each server."""


@dataclass(frozen=True)
class Measured:
    """One server.

    Attributes:
        user: CPU time per request in the server's code, in seconds.
        system: CPU time per request in the kernel, in seconds.
        memory: Memory of the server afterwards, in bytes.
    """

    user: float
    system: float
    memory: int

    @property
    def cpu(self) -> float:
        """CPU time per request, in seconds."""
        return self.user + self.system


@click.command(help=__doc__)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Repository with the models."
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds of all settings.")
@click.option(
    "--hollow",
    "is_hollow",
    is_flag=True,
    help="Serve MODEL, a CTC recognizer, without its networks, to see the server's own cost, as on a fast GPU.",
)
def main(models: tuple[str, ...], repository: Path, rounds: int, is_hollow: bool) -> None:
    if is_hollow and len(models) > 1:
        raise click.BadParameter("name one MODEL with --hollow")
    with tempfile.TemporaryDirectory() as folder:
        if is_hollow:
            try:
                write_variant(repository, models[0], Path(folder) / "hollow", hollow)
            except ExportError as error:
                raise click.BadParameter(str(error)) from error
            repository = Path(folder) / "hollow"
        compare(repository, models, rounds)


def compare(repository: Path, models: Sequence[str], rounds: int) -> None:
    """Measure all settings and print the table.

    Raises:
        ServerUnavailableError: The server does not start.
        RecognizerError: A request failed.
    """
    speech = np.concatenate([recording.samples for recording in read_recordings(DEMO_MANIFEST)])
    clips = make_clips(speech, 0, count=CLIPS, longest=LONGEST_SECONDS)
    measured: list[dict[str, Measured]] = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("malloc settings", total=rounds * len(SETTINGS))
        for _ in range(rounds):
            measured.append({})
            for name, variables in SETTINGS.items():
                with environment(variables):
                    measured[-1][name] = measure(repository, models, clips)
                progress.advance(task)
    Console().print(table(measured))


def measure(repository: Path, models: Sequence[str], clips: Sequence[Samples]) -> Measured:
    """Measure a server with this process's environment.

    Raises:
        ServerUnavailableError: The server does not start.
        RecognizerError: A request failed.
    """
    with serving(repository, only(repository, *models)) as server:
        _send_all(server.grpc, models, clips)
        before = cpu_times(server.process.pid)
        for _ in range(REPEATS):
            _send_all(server.grpc, models, clips)
        after = cpu_times(server.process.pid)
        requests = REPEATS * len(models) * len(clips)
        user, system = ((end - begin) / requests for begin, end in zip(before, after, strict=True))
        return Measured(user, system, footprint(server.process.pid).memory)


def _send_all(url: str, models: Sequence[str], clips: Sequence[Samples]) -> None:
    for model in models:
        errors = send_concurrently(url, model, clips, REQUEST_SECONDS)
        if errors:
            raise RecognizerError(f"{model}: {errors[0]}")


def cpu_times(server: int) -> tuple[float, float]:
    """CPU seconds of a server and its models' processes: in their code, and in the kernel."""
    process = psutil.Process(server)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user for each in times), sum(each.system for each in times)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set malloc's environment variables for the block, and no others of malloc."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("MALLOC_")]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def table(rounds: Sequence[Mapping[str, Measured]]) -> Table:
    """Medians of each setting, and ratios to the first."""
    base = next(iter(SETTINGS))
    shown = Table(title=f"{len(rounds)} rounds; ratios to {base}: median (lowest to highest)")
    for header in ("malloc", "CPU ms per request", "in the kernel", "CPU, ratio", "memory MiB", "memory, ratio"):
        shown.add_column(header, justify="left" if header == "malloc" else "right")
    for name in SETTINGS:
        runs = [measured[name] for measured in rounds]
        bases = [measured[base] for measured in rounds]
        shown.add_row(
            name,
            f"{1e3 * statistics.median(run.cpu for run in runs):.1f}",
            f"{1e3 * statistics.median(run.system for run in runs):.1f}",
            spread([run.cpu / first.cpu for run, first in zip(runs, bases, strict=True)], 2),
            f"{statistics.median(run.memory for run in runs) / MIB:.0f}",
            spread([run.memory / first.memory for run, first in zip(runs, bases, strict=True)], 2),
        )
    return shown


if __name__ == "__main__":
    options.run(main)
