"""Give mutated files to the readers of audio, manifests, run logs and certificates.

    python -m verification.fuzz.fuzz_readers --minutes 5

A reader must give a result, or raise the error that it documents, in one line that names the file. It must not take
much memory or time. Exit code 1 if a reader does something else; the smallest file that shows it is printed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import hypothesis
from hypothesis import HealthCheck
from rich.console import Console
from rich.progress import track

from nemo_triton.terminal import options
from verification.fuzz.page import readers_summary
from verification.fuzz.readers import Reader, readers
from verification.page_sections import write_section

EXAMPLES = 500
"""Files per seed."""


def examine(reader: Reader, folder: Path, *, seed: int, examples: int) -> tuple[int, int]:
    """Give mutated files to a reader.

    Args:
        reader: The reader.
        folder: Folder for the files.
        seed: Seed of the mutations.
        examples: Number of files.

    Returns:
        The number of files, and of these that the reader could read.

    Raises:
        Exception: What the reader raised, with the smallest file as a note.
    """
    counts = [0, 0]

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    @hypothesis.given(reader.files)
    def check(file: tuple[str, bytes]) -> None:
        counts[0] += 1
        counts[1] += reader.check(folder, *file)

    run: Callable[[], None] = check
    run()
    return counts[0], counts[1]


@click.command(help=__doc__)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=5,
    show_default=True,
    help="Duration, of all readers together.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="First seed; more follow until the time is up.")
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Markdown page whose section `readers` gets the results.",
)
def main(minutes: float, seed: int, page: Path | None) -> None:
    """Examine all readers, print the results, and exit."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        each = readers(folder)
        for reader in track(each, description="readers", console=Console(stderr=True)):
            rows.append(_row(reader, folder, seconds=minutes * 60 / len(each), first_seed=seed))
    summary = readers_summary(rows, seed=seed)
    click.echo(summary)
    if page:
        write_section(page, "readers", summary)
    sys.exit(1 if any(row[4] for row in rows) else 0)


def _row(reader: Reader, folder: Path, *, seconds: float, first_seed: int) -> tuple[str, int, int, float, str]:
    start, seed, files, read, wrong = time.monotonic(), first_seed, 0, 0, ""
    while not wrong and time.monotonic() - start < seconds:
        try:
            examined = examine(reader, folder, seed=seed, examples=EXAMPLES)
        except Exception as error:  # Whatever a reader raises is the result.
            notes = "\n".join(getattr(error, "__notes__", ()))
            click.echo(f"{reader.name}, seed {seed}: {type(error).__name__}: {error}\n{notes}", err=True)
            wrong = type(error).__name__
            continue
        files, read, seed = files + examined[0], read + examined[1], seed + 1
    return reader.name, files, read, time.monotonic() - start, wrong


if __name__ == "__main__":
    options.run(main)
