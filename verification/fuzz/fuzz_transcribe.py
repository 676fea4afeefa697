"""Transcribe a folder and manifests with good files among mutated ones.

    python -m verification.fuzz.fuzz_transcribe NAME --repository R

Runs client/transcribe.py. It must print the right text of each good file and line, for each mutated one a text or one
line on stderr, and nothing else. Exit code 1 if it does something else.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from benchmark.core.model_control import only
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.terminal import options
from server.process import running_server
from verification.fuzz.folder_run import texts_of, transcribe_folder
from verification.fuzz.page import transcribe_summary
from verification.page_sections import write_section


@click.command(help=__doc__)
@click.argument("model", metavar="NAME")
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option(
    "--files",
    type=click.IntRange(3),
    default=2000,
    show_default=True,
    help="Mutated files, and as many mutated lines of manifests; each with a good one after it.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the mutations.")
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Markdown page whose section `transcribe` gets the results.",
)
def main(model: str, repository: Path, files: int, seed: int, page: Path | None) -> None:
    """Run the command, print the results, and exit."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(repository, only(repository, model)) as server,
    ):
        speech = texts_of(DEMO_MANIFEST, model, server.grpc)
        results = transcribe_folder(Path(folder), speech, model=model, url=server.grpc, files=files, seed=seed)
    summary = transcribe_summary(results, seed=seed)
    click.echo(summary)
    if page:
        write_section(page, "transcribe", summary)
    sys.exit(1 if results.wrong else 0)


if __name__ == "__main__":
    options.run(main)
