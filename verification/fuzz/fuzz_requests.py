"""Send mutated requests to one of two servers while valid requests go to both.

    python -m verification.fuzz.fuzz_requests NAME... --repository R --minutes 5
    python -m verification.fuzz.fuzz_requests NAME... --repository R --replay build/fuzz/seed_0_request_17.json

Every field of Triton's ModelInferRequest is mutated, for each recognizer and each of its stages. The servers have the
launcher's defaults. A request that ends a server or hangs is written to a file without the mutations that it doesn't
need, and can be replayed. Exit code 1 if a request does that, or if a valid request fails or gets another text.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmark.core.options import concurrency_option
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.terminal import options
from verification.fuzz.campaign import ENDED, Settings, fuzz, replay
from verification.fuzz.cases import FuzzRequest
from verification.fuzz.page import requests_summary
from verification.fuzz.sending import HUNG
from verification.page_sections import write_section


@click.command(help=__doc__)
@click.argument("models", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=5, show_default=True, help="Duration.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the mutated requests.")
@concurrency_option(6, "Concurrent mutated requests.")
@click.option(
    "--seconds-to-answer",
    type=click.FloatRange(1),
    default=60,
    show_default=True,
    help="A request without a response within this time counts as hung.",
)
@click.option(
    "--open-http",
    is_flag=True,
    help="Open inference by HTTP on the fuzzed server and mutate its JSON. Otherwise a tenth of the requests checks "
    "that it is closed.",
)
@click.option("--known-faults", is_flag=True, help="Also send requests that are known to end the server.")
@click.option(
    "--findings",
    type=click.Path(path_type=Path),
    default=Path("build/fuzz"),
    show_default=True,
    help="Folder for requests that end a server or hang.",
)
@click.option(
    "--replay", "file", type=click.Path(exists=True, path_type=Path), help="Only send the request in this file."
)
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Markdown page whose section `requests` or `http` gets the results.",
)
def main(
    models: tuple[str, ...],
    repository: Path,
    minutes: float,
    seed: int,
    concurrency: int,
    seconds_to_answer: float,
    open_http: bool,
    known_faults: bool,
    findings: Path,
    file: Path | None,
    page: Path | None,
) -> None:
    """Run the fuzzer or replay a request, print the results, and exit."""
    settings = Settings(
        repository=repository,
        models=models,
        manifest=DEMO_MANIFEST,
        seed=seed,
        seconds=minutes * 60,
        concurrency=concurrency,
        patience=seconds_to_answer,
        open_http=open_http,
        known_faults=known_faults,
        findings=findings,
    )
    if file:
        try:
            outcome = replay(settings, FuzzRequest.read(file))
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"{file}: {outcome}")
        sys.exit(1 if outcome.startswith((ENDED, HUNG)) else 0)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("mutated requests", total=None)
            results = fuzz(settings, lambda: progress.advance(task))
    except KeyboardInterrupt:
        click.echo("interrupted; the page is unchanged", err=True)
        sys.exit(130)
    summary = requests_summary(results, seed=seed, patience=seconds_to_answer)
    click.echo(summary)
    if page:
        write_section(page, "http" if open_http else "requests", summary)
    sys.exit(1 if results.findings or results.unexplained or results.wrong else 0)


if __name__ == "__main__":
    options.run(main)
