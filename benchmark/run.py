"""The command that measures served models under load: `python -m benchmark.run MODEL... --data FOLDER ...`."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from benchmark.dataset import DESCRIPTION, MANIFEST, Description, read_description
from benchmark.model_control import EXPLICIT, loaded
from benchmark.models import Model, RepositoryError, read_models
from benchmark.results_folder import ResultsError, is_measured, read_json, write_json
from client import cli
from client.errors import ClientError
from server.process import running_server

BENCH = Path(__file__).parent.parent / "client" / "bench.py"
CONCURRENCIES = (1, 4, 16, 32)
RATES_OF_CAPACITY = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
"""Rates of the open loops, as shares of the requests a second that the server answers in a closed loop."""


@dataclass(frozen=True)
class Settings:
    """What is the same for all models. `seconds`: how long each load is put on the server, about."""

    url: str
    metrics_url: str
    out: Path
    seconds: float


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
    help="How long each load lasts, about; each utterance is asked for at least once.",
)
@click.option(
    "--url",
    metavar="HOST:PORT",
    help=f"A server of that repository that was started with {EXPLICIT}.  [default: one of our own]",
)
@click.option("--metrics-url", metavar="URL", help="Its metrics.  [default: port 8002 of its host]")
def run(
    patterns: tuple[str, ...],
    repository: Path,
    datasets: tuple[Path, ...],
    out: Path,
    seconds: float,
    url: str | None,
    metrics_url: str | None,
) -> int:
    """Put loads on each model with each data set, one model at a time: closed loops, then open ones up to capacity.

    MODEL is a name or a pattern such as 'stt_en_citrinet_*'. What RESULTS holds already is not measured again, and a
    run that was interrupted goes on where it was. A model that fails costs one line and exit code 2, not the others.
    """
    models = choose(read_models(repository), patterns, repository)
    described = [describe(folder) for folder in datasets]
    code = cli.EXIT_OK
    with ExitStack() as stack:
        if url is None:
            server = stack.enter_context(running_server(repository, [EXPLICIT]))
            url, metrics_url = server.grpc, f"http://{server.metrics}/metrics"
        settings = Settings(url, metrics_url or f"http://{url.rpartition(':')[0]}:8002/metrics", out, seconds)
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
        if not is_measured(_file(settings, model, description, "open"), conditions)
    ]
    if not missing:
        click.echo(f"{model.name}: measured already")
        return cli.EXIT_OK
    code = cli.EXIT_OK
    with loaded(settings.url, model.name):
        for folder, description, conditions in missing:
            code = max(code, _put_loads(model, folder, description, conditions, settings))
    return code


def _conditions(model: Model, description: Description, settings: Settings) -> dict[str, Any]:
    return {
        "parity_id": model.parity_id,
        "manifest_sha256": description.manifest_sha256,
        "audio_sha256": description.audio_sha256,
        "seconds": settings.seconds,
        "concurrencies": list(CONCURRENCIES),
        "rates_of_capacity": list(RATES_OF_CAPACITY),
    }


def _put_loads(
    model: Model, folder: Path, description: Description, conditions: dict[str, Any], settings: Settings
) -> int:
    """A pass to warm up and to see the speed, then closed loops, then open ones; the exit code of the worst."""
    utterances = description.utterances
    pilot, code = _bench(model, folder, description, conditions, settings, "pilot", ["--concurrency", "16"])
    if not pilot["utterances"]:
        raise ResultsError(f"on {description.name}: no utterance was answered; see the lines above")
    passes = math.ceil(settings.seconds * pilot["loads"][0]["requests_per_second"] / utterances)
    closed_flags = ["--concurrency", ",".join(map(str, CONCURRENCIES)), "--requests", str(passes * utterances)]
    closed, closed_code = _bench(model, folder, description, conditions, settings, "closed", closed_flags)
    capacity = max(load["requests_per_second"] for load in closed["loads"])
    # Rounded, so that a run that goes on asks for the same rates to the letter.
    rates = ",".join(f"{share * capacity:.3g}" for share in RATES_OF_CAPACITY)
    open_flags = ["--rate", rates, "--duration", f"{settings.seconds:g}"]
    _, open_code = _bench(model, folder, description, conditions, settings, "open", open_flags)
    return max(code, closed_code, open_code)


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
        return read_json(file), cli.EXIT_OK
    file.parent.mkdir(parents=True, exist_ok=True)
    # Named by what is measured, so that rows of something else are neither gone on with nor in the way.
    digest = hashlib.sha256(json.dumps([conditions, list(flags)]).encode()).hexdigest()[:8]
    rows, fresh = file.with_name(f"{kind}_{digest}.rows.jsonl"), file.with_name(f"{kind}.measured.json")
    fresh.unlink(missing_ok=True)
    command = [sys.executable, str(BENCH), "--model", model.name, "--url", settings.url]
    command += ["--metrics-url", settings.metrics_url, "--manifest", str(folder / MANIFEST)]
    command += ["--rows", str(rows), "--json", str(fresh), "--worst", "5", *flags]
    click.echo(f"{model.name} on {description.name}: {' '.join(flags)}")
    # Its tables are for those who ask for one model; here they go to the report.
    ended = subprocess.run([*command, "--resume"] if rows.exists() else command, stdout=subprocess.DEVNULL)
    if not fresh.exists():
        raise ResultsError(f"no figures on {description.name}: bench.py ended with code {ended.returncode}")
    measured = {"conditions": conditions, "dataset_name": description.name, "rows": rows.name, **read_json(fresh)}
    fresh.unlink()
    if ended.returncode not in (cli.EXIT_OK, cli.EXIT_PROBLEM) or not measured["loads"]:
        raise ResultsError(f"on {description.name}: interrupted; run this again to go on")
    write_json(file, measured)
    return measured, ended.returncode


def _file(settings: Settings, model: Model, description: Description, kind: str) -> Path:
    return settings.out / model.name / description.name / f"{kind}.json"


if __name__ == "__main__":
    cli.run(run)
