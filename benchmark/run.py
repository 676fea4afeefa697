"""The command that measures served models under load: `python -m benchmark.run MODEL... --data FOLDER ...`."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from benchmark.core.model_control import EXPLICIT, loaded
from benchmark.core.models import Model, RepositoryError, read_models
from benchmark.core.results_folder import ResultsError, is_measured, read_json, write_json
from benchmark.core.serving import serving
from benchmark.data.dataset import DESCRIPTION, MANIFEST, Description, read_description
from nemo_triton.addresses import parse_urls
from nemo_triton.errors import ClientError
from nemo_triton.loadtest.server_metrics import default_metrics_url
from nemo_triton.terminal import options as cli
from nemo_triton.tls import Tls

BENCH = Path(__file__).parent.parent / "client" / "bench.py"
CONCURRENCIES = "1,4,16,32"
COMPARED_AT = 16
"""The concurrency by which models are compared; it is measured in rounds, at different times."""
MORE_ROUNDS = ("round_2", "round_3")
LAST = MORE_ROUNDS[-1]
RATES_OF_CAPACITY = (0.25, 0.5, 0.75, 1.0)
"""Rates of the open loops, as shares of the requests a second that the server answers in a closed loop."""
OPEN_REQUESTS = 100
"""Requests at each rate, at least, lest a percentile be that of a handful."""


@dataclass(frozen=True)
class Settings:
    """What is the same for all models.

    seconds: how long each closed loop lasts, about
    flags: more of bench.py's own
    """

    url: str
    tls: Tls | None
    metrics_url: str
    out: Path
    seconds: float
    concurrencies: str
    flags: tuple[str, ...]


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
    callback=cli.number_list(click.IntRange(min=1)),
    help=f"Of the closed loops; {COMPARED_AT}, by which models are compared, is always among them.",
)
@click.option("--bench", "flags", default="", metavar="FLAGS", help="More flags of bench.py, e.g. '--processes 4'.")
@click.option(
    "--url",
    metavar="HOST:PORT",
    help=f"A server of that repository that was started with {EXPLICIT}.  [default: one of our own]",
)
@cli.tls_options
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
    described = [describe(folder) for folder in datasets]
    code = cli.EXIT_OK
    with ExitStack() as stack:
        if url is None:
            server = stack.enter_context(serving(repository, [EXPLICIT]))
            url, metrics_url = server.grpc, f"http://{server.metrics}/metrics"
        metrics_url = metrics_url or default_metrics_url(url)
        listed = ",".join(map(str, sorted({*concurrencies, COMPARED_AT})))
        settings = Settings(url, tls, metrics_url, out, seconds, listed, tuple(shlex.split(flags)))
        for model in models:
            write_json(out / model.name / "model.json", asdict(model))
            try:
                code = max(code, _measure(model, described, settings))
            except ClientError as error:
                cli.print_error(f"{model.name}: {error}")
                code = cli.EXIT_PROBLEM
    return code


def choose(models: Sequence[Model], patterns: Sequence[str], repository: Path) -> list[Model]:
    """The models that fit any of the patterns. Raises RepositoryError for a pattern that fits none."""
    for pattern in patterns:
        if not any(fnmatchcase(model.name, pattern) for model in models):
            known = ", ".join(model.name for model in models)
            raise RepositoryError(f"{pattern}: fits no model in {repository}, which has {known}")
    return [model for model in models if any(fnmatchcase(model.name, pattern) for pattern in patterns)]


def describe(folder: Path) -> tuple[Path, Description]:
    """A prepared data set with its description. Raises ResultsError where it is none."""
    description = read_description(folder)
    if description is None:
        raise ResultsError(f"{folder}: holds no {DESCRIPTION}; make it with python -m benchmark.prepare")
    return folder, description


def _measure(model: Model, datasets: Sequence[tuple[Path, Description]], settings: Settings) -> int:
    """All data sets with one model; the exit code."""
    wanted = [(folder, description, _conditions(model, description, settings)) for folder, description in datasets]
    missing = [
        (folder, description, conditions)
        for folder, description, conditions in wanted
        if not is_measured(_file(settings, model, description, LAST), conditions)
    ]
    if not missing:
        click.echo(f"{model.name}: measured already")
        return cli.EXIT_OK
    code = cli.EXIT_OK
    with loaded(settings.url, model.name, settings.tls):
        for folder, description, conditions in missing:
            code = max(code, _put_loads(model, folder, description, conditions, settings))
    return code


def _conditions(model: Model, description: Description, settings: Settings) -> dict[str, Any]:
    return {
        "parity_id": model.parity_id,
        "manifest_sha256": description.manifest_sha256,
        "audio_sha256": description.audio_sha256,
        "seconds": settings.seconds,
        "concurrencies": settings.concurrencies,
        "rates_of_capacity": list(RATES_OF_CAPACITY),
        "flags": list(settings.flags),
    }


def _put_loads(
    model: Model, folder: Path, description: Description, conditions: dict[str, Any], settings: Settings
) -> int:
    """A pass to see the speed, closed loops, open ones, and more rounds of one closed loop; the worst exit code.

    Raises ResultsError where the server answers nothing.
    """
    code = cli.EXIT_OK

    def bench(kind: str, *flags: str) -> dict[str, Any]:
        nonlocal code
        measured, ended = _bench(model, folder, description, conditions, settings, kind, flags)
        code = max(code, ended)
        return measured

    pilot = fastest(bench("pilot", "--concurrency", str(COMPARED_AT))["loads"])
    if not pilot["answered"]:
        raise ResultsError(f"on {description.name}: no utterance was answered; see the lines above")
    closed_requests = str(_whole_passes(settings.seconds * pilot["requests_per_second"], description))
    closed = bench("closed", "--concurrency", settings.concurrencies, "--requests", closed_requests)
    capacity = fastest(closed["loads"])["requests_per_second"]
    # Rounded, so that a run that goes on asks for the same rates to the letter.
    rates = ",".join(f"{share * capacity:.3g}" for share in RATES_OF_CAPACITY)
    open_requests = str(_whole_passes(max(settings.seconds * capacity / 2, OPEN_REQUESTS), description))
    bench("open", "--rate", rates, "--requests", open_requests)
    for kind in MORE_ROUNDS:
        bench(kind, "--concurrency", str(COMPARED_AT), "--requests", closed_requests)
    return code


def _whole_passes(requests: float, description: Description) -> int:
    """At least so many requests, each utterance equally often."""
    return max(math.ceil(requests / description.utterances), 1) * description.utterances


def fastest(loads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The load with the highest throughput, of bench.py's JSON."""
    return max(loads, key=lambda load: load["rtfx"])


def compared_load(loads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The load that models are compared by, of the closed loops in bench.py's JSON."""
    return next(load for load in loads if load["load"] == {"concurrency": COMPARED_AT})


def _bench(
    model: Model,
    folder: Path,
    description: Description,
    conditions: dict[str, Any],
    settings: Settings,
    kind: str,
    flags: Sequence[str],
) -> tuple[dict[str, Any], int]:
    """Run client/bench.py, or take what it measured before under the same conditions.

    Raises ResultsError where it has no figures.
    """
    file = _file(settings, model, description, kind)
    if is_measured(file, conditions):
        measured = read_json(file)
        return measured, cli.EXIT_PROBLEM if measured["failures"] else cli.EXIT_OK
    file.parent.mkdir(parents=True, exist_ok=True)
    # Named by what is measured, so that rows of something else are neither gone on with nor in the way.
    digest = hashlib.sha256(json.dumps([conditions, list(flags)]).encode()).hexdigest()[:8]
    rows, fresh = file.with_name(f"{kind}_{digest}.rows.jsonl"), file.with_name(f"{kind}.measured.json")
    fresh.unlink(missing_ok=True)
    command = [sys.executable, str(BENCH), "--model", model.name, "--url", settings.url, *_tls_flags(settings.tls)]
    command += ["--metrics-url", settings.metrics_url, "--manifest", str(folder / MANIFEST)]
    command += ["--rows", str(rows), "--json", str(fresh), "--worst", "5", *settings.flags, *flags]
    click.echo(f"{model.name} on {description.name}: {' '.join(flags)}")
    # Its tables are for those who ask for one model; here they go to the report.
    ended = subprocess.run([*command, "--resume"] if rows.exists() else command, stdout=subprocess.DEVNULL)
    if not fresh.exists():
        raise ResultsError(f"no figures on {description.name}: bench.py ended with code {ended.returncode}")
    measured = {"conditions": conditions, "dataset_name": description.name, "rows": rows.name, **read_json(fresh)}
    fresh.unlink()
    if not measured["complete"]:
        raise ResultsError(f"on {description.name}: cut short; run this again to go on")
    write_json(file, measured)
    return measured, ended.returncode


def _tls_flags(tls: Tls | None) -> list[str]:
    """Of bench.py."""
    if tls is None:
        return []
    files = {"--ca": tls.ca, "--certificate": tls.certificate, "--key": tls.key}
    return ["--tls", *(part for flag, file in files.items() if file for part in (flag, str(file)))]


def _file(settings: Settings, model: Model, description: Description, kind: str) -> Path:
    return settings.out / model.name / description.name / f"{kind}.json"


if __name__ == "__main__":
    cli.run(run)
