"""Send mixed audio to several servers under full load, inject faults, and check every text, memory and latency.

    python -m verification.faults.soak NAME... --repository R --folder build/soak --out docs/soak.md

Faults: model processes, servers and supervisors are killed, servers are stopped and continued, connections are cut. One
server always lives. Exit code 1 if a text is wrong, a request fails, a server does not recover, memory grows, or
latency rises.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.core.options import concurrency_option
from benchmark.core.results_folder import write_text
from nemo_triton.audio import join
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ServerUnavailableError, one_line
from nemo_triton.manifest import read_manifest
from nemo_triton.terminal import options
from nemo_triton.utterances import load_utterance
from server.process import ServerError
from verification.faults.clips import make_clips
from verification.faults.soak_judge import bounds
from verification.faults.soak_page import markdown
from verification.faults.soak_run import Settings, soak

CLIPS = 60
LONGEST_SECONDS = 60.0


@click.command(help=__doc__)
@click.argument("models", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the servers' logs."
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=20,
    show_default=True,
    help="Duration of the load. Memory and latency need 10 or more.",
)
@click.option("--servers", type=click.IntRange(2), default=3, show_default=True, help="Number of servers.")
@concurrency_option(16, "Concurrent requests per recognizer.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the audio, the load and the faults.")
@click.option(
    "--manifest",
    type=click.Path(exists=True, path_type=Path),
    default=DEMO_MANIFEST,
    help="Recordings that audio is cut from.  [default: the demo's recordings]",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
def main(
    models: tuple[str, ...],
    repository: Path,
    folder: Path,
    minutes: float,
    servers: int,
    concurrency: int,
    seed: int,
    manifest: Path,
    out: Path,
) -> int:
    speech = join(load_utterance(utterance) for utterance in read_manifest(manifest).utterances)
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        repository=repository,
        folder=folder,
        models=models,
        clips=make_clips(speech, seed, count=CLIPS, longest=LONGEST_SECONDS),
        servers=servers,
        concurrency=concurrency,
        seconds=60 * minutes,
        seed=seed,
    )
    try:
        with options.progress_bar() as progress:
            recorded = soak(settings, progress)
    except ServerError as error:
        raise ServerUnavailableError(one_line(error)) from error
    page = markdown(settings, recorded)
    write_text(out, page)
    click.echo(page)
    return 0 if all(bound.holds for bound in bounds(recorded)) else 1


if __name__ == "__main__":
    options.run(main)
