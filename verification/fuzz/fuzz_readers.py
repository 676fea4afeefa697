"""Give mutated files to the readers of audio, manifests, run logs and certificates.

    python -m verification.fuzz.fuzz_readers --minutes 5

A reader must give a result, or raise the error that it documents, in one line that names the file. It must not take
much memory or time. Each runs in a process of its own, so that a crash or a hang of a native decoder is a result too.
Exit code 1 if a reader does something else; the smallest file that shows it is printed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from nemo_triton.terminal import options
from verification.fuzz.isolated import IsolatedReader
from verification.fuzz.page import readers_summary
from verification.fuzz.readers import READERS
from verification.page_sections import write_section

EXAMPLES = 500
"""Files per seed."""


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
@click.option(
    "--findings",
    type=click.Path(path_type=Path),
    default=Path("build/fuzz"),
    show_default=True,
    help="Folder for the files with which a reader's process ended or hung.",
)
def main(minutes: float, seed: int, page: Path | None, findings: Path) -> None:
    """Examine all readers, print the results, and exit."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for reader, build in track(READERS.items(), description="readers", console=Console(stderr=True)):
            folder = Path(name, reader)
            folder.mkdir()
            with IsolatedReader(build, folder, findings) as isolated:
                rows.append(_row(build(folder).name, isolated, seconds=minutes * 60 / len(READERS), first_seed=seed))
    summary = readers_summary(rows, seed=seed)
    click.echo(summary)
    if page:
        write_section(page, "readers", summary)
    sys.exit(1 if any(row[4] for row in rows) else 0)


def _row(name: str, reader: IsolatedReader, *, seconds: float, first_seed: int) -> tuple[str, int, int, float, str]:
    start, seed, files, read, wrong = time.monotonic(), first_seed, 0, 0, ""
    while not wrong and time.monotonic() - start < seconds:
        examined, could_read, wrong = reader.examine(seed=seed, examples=EXAMPLES)
        if wrong:
            click.echo(f"{name}, seed {seed}: {wrong}", err=True)
        files, read, seed = files + examined, read + could_read, seed + 1
    return name, files, read, time.monotonic() - start, wrong.partition(":")[0]


if __name__ == "__main__":
    options.run(main)
