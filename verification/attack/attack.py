"""Send a server thousands of valid and invalid concurrent requests, and check every response.

    python -m verification.attack.attack NAME... --repository R --requests 20000 --out docs/attack.md

Requests are drawn at random (cases.py). Each response is compared with that of the same request sent unbatched. Some
clients cancel or time out. Exit code 1 if a response is wrong, a request hangs, or a process of the server dies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmark.core.options import concurrency_option
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.terminal import options
from verification.attack.assault import assault
from verification.attack.summary import markdown


@click.command(help=__doc__)
@click.argument("models", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option("--requests", type=click.IntRange(1), default=20_000, show_default=True, help="Requests to send.")
@concurrency_option(32, "Concurrent clients.")
@click.option(
    "--manifest",
    type=click.Path(exists=True, path_type=Path),
    default=DEMO_MANIFEST,
    help="Recordings that requests are cut from.  [default: the demo's recordings]",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
def main(models: tuple[str, ...], repository: Path, requests: int, concurrency: int, manifest: Path, out: Path) -> None:
    """Run the attack, write the summary, and exit."""
    try:
        attack, outcome = assault(repository, models, requests=requests, concurrency=concurrency, manifest=manifest)
    except KeyboardInterrupt:
        click.echo(f"interrupted; {out} is unchanged", err=True)
        sys.exit(130)
    summary = markdown(attack, outcome)
    out.write_text(summary)
    click.echo(summary)
    sys.exit(1 if outcome.wrong or outcome.deaths else 0)


if __name__ == "__main__":
    options.run(main)
