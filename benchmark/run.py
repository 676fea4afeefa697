"""Measure served models under load: `python -m benchmark.run MODEL... --data FOLDER --out RESULTS`."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from benchmark.core.constants import COMPARED_AT, CONCURRENCIES
from benchmark.core.model_control import EXPLICIT
from benchmark.core.models import choose, read_models
from benchmark.core.results_folder import write_json
from benchmark.core.serving import serving
from benchmark.data.dataset import open_dataset
from benchmark.measuring.loads import Settings, measure
from nemo_triton.addresses import parse_urls
from nemo_triton.errors import ClientError
from nemo_triton.terminal import exit_codes, options
from nemo_triton.tls import Tls


@click.command()
@click.argument("patterns", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--repository",
    default="model_repository",
    show_default=True,
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model repository to serve.",
)
@click.option(
    "--data",
    "datasets",
    multiple=True,
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Data set from benchmark.prepare. Repeat the option to measure several.",
)
@click.option(
    "--out",
    required=True,
    metavar="RESULTS",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results. Existing results are kept.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Approximate duration of each closed loop. Each load sends every utterance at least once.",
)
@click.option(
    "--concurrency",
    "concurrencies",
    default=CONCURRENCIES,
    show_default=True,
    callback=options.number_list(click.IntRange(min=1)),
    help=f"Concurrent requests of the closed loops, comma-separated. {COMPARED_AT} is always included.",
)
@click.option("--bench", "flags", default="", metavar="FLAGS", help="Further flags for bench.py, e.g. '--processes 4'.")
@click.option(
    "--url",
    metavar="HOST:PORT",
    help=f"Use a running server of the same repository, started with {EXPLICIT}.  [default: start one]",
)
@options.tls_options
@click.option(
    "--metrics-url",
    metavar="URL",
    help="URL of the metrics of the server at --url, without TLS.  [default: found by bench.py]",
)
def run(
    patterns: tuple[str, ...],
    repository: Path,
    datasets: tuple[Path, ...],
    out: Path,
    seconds: float,
    concurrencies: tuple[int, ...],
    flags: str,
    url: str | None,
    metrics_url: str | None,
    tls: Tls | None,
) -> int:
    """Measure models under load, one model at a time, with each data set.

    MODEL is a name or a pattern such as 'stt_en_citrinet_*'. Each model gets closed loops (a fixed number of
    concurrent requests), then open loops (a fixed rate) up to its capacity.

    Existing results in RESULTS are not measured again, and an interrupted run resumes. If a model fails, one line is
    printed, the other models are still measured, and the exit code is 2.
    """
    if url is None and tls:
        raise click.UsageError(
            "--tls, --ca, --certificate and --key need --url; without it, a server is started without TLS"
        )
    if url is not None and len(parse_urls(url)) > 1:
        raise click.UsageError(f"{url}: names several servers; give one, since models are loaded one at a time")
    models = choose(read_models(repository), patterns, repository)
    prepared = [open_dataset(folder) for folder in datasets]
    code = exit_codes.EXIT_OK
    with ExitStack() as stack:
        if url is None:
            server = stack.enter_context(serving(repository, [EXPLICIT]))
            url, metrics_url = server.grpc, f"http://{server.metrics}/metrics"
        closed_loops = ",".join(map(str, sorted({*concurrencies, COMPARED_AT})))
        settings = Settings(
            url=url,
            tls=tls,
            metrics_url=metrics_url,
            out=out,
            seconds=seconds,
            concurrencies=closed_loops,
            flags=tuple(shlex.split(flags)),
        )
        for model in models:
            write_json(out / model.name / "model.json", asdict(model))
            try:
                code = max(code, measure(model, prepared, settings))
            except ClientError as error:
                exit_codes.print_error(f"{model.name}: {error}")
                code = exit_codes.EXIT_PROBLEM
    return code


if __name__ == "__main__":
    options.run(run)
