"""The command that measures served models under load: `python -m benchmark.run MODEL... --data FOLDER ...`."""

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
from nemo_triton.loadtest.server_metrics import default_metrics_url
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
    help="The models to serve.",
)
@click.option(
    "--data",
    "datasets",
    multiple=True,
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="A data set that benchmark.prepare wrote; may be given again.",
)
@click.option(
    "--out", required=True, metavar="RESULTS", type=click.Path(file_okay=False, path_type=Path), help="Results go here."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="How long each closed loop lasts, about; under each load each utterance is asked for at least once.",
)
@click.option(
    "--concurrency",
    "concurrencies",
    default=CONCURRENCIES,
    show_default=True,
    callback=options.number_list(click.IntRange(min=1)),
    help=f"Of the closed loops; {COMPARED_AT}, by which models are compared, is always among them.",
)
@click.option("--bench", "flags", default="", metavar="FLAGS", help="More flags of bench.py, e.g. '--processes 4'.")
@click.option(
    "--url",
    metavar="HOST:PORT",
    help=f"A server of that repository that was started with {EXPLICIT}.  [default: one of our own]",
)
@options.tls_options
@click.option(
    "--metrics-url", metavar="URL", help="Its metrics, which never come by TLS.  [default: port 8002 of its host]"
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
    """Put loads on each model with each data set, one model at a time: closed loops, then open ones up to capacity.

    MODEL is a name or a pattern such as 'stt_en_citrinet_*'. What RESULTS holds already is not measured again, and a
    run that was interrupted goes on where it was. A model that fails costs one line and exit code 2, not the others.
    """
    if url is None and tls:
        raise click.UsageError("--tls, --ca, --certificate and --key are for the server that --url names")
    if url is not None and len(parse_urls(url)) > 1:
        raise click.UsageError(f"{url}: names several servers; models are loaded one at a time, on one")
    models = choose(read_models(repository), patterns, repository)
    prepared = [open_dataset(folder) for folder in datasets]
    code = exit_codes.EXIT_OK
    with ExitStack() as stack:
        if url is None:
            server = stack.enter_context(serving(repository, [EXPLICIT]))
            url, metrics_url = server.grpc, f"http://{server.metrics}/metrics"
        metrics_url = metrics_url or default_metrics_url(url)
        listed = ",".join(map(str, sorted({*concurrencies, COMPARED_AT})))
        settings = Settings(
            url=url,
            tls=tls,
            metrics_url=metrics_url,
            out=out,
            seconds=seconds,
            concurrencies=listed,
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
