"""Send a server thousands of good and bad requests at once, and compare each answer with the same request alone.

    python -m verification.attack.attack NAME... --repository R --requests 10000 --out docs/attack.md

Requests are drawn at random (cases.py) and kept in flight by a number of clients, some of which leave before
they are answered. Exit code 1 where a text changed, a request got what it should not, or hung, or a process of
the server died.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from verification.attack.assault import assault
from verification.attack.summary import markdown


@click.command(help=__doc__)
@click.argument("models", metavar="NAME...", nargs=-1, required=True)
@click.option("--repository", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--requests", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--at-once", type=click.IntRange(1), default=32, show_default=True, help="Clients.")
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), default=DEMO_MANIFEST)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Markdown file to write.")
def main(models: tuple[str, ...], repository: Path, requests: int, at_once: int, manifest: Path, out: Path) -> None:
    """Attack, write the summary, and end with the exit code."""
    try:
        attack, outcome = assault(repository, models, requests=requests, at_once=at_once, manifest=manifest)
    except KeyboardInterrupt:
        click.echo(f"interrupted; {out} is as it was", err=True)
        sys.exit(130)
    summary = markdown(attack, outcome)
    out.write_text(summary)
    click.echo(summary)
    sys.exit(1 if outcome.wrong or outcome.deaths else 0)


if __name__ == "__main__":
    main()
