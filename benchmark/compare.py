"""Compare a served model with baselines: `python -m benchmark.compare MODEL --data FOLDER --out RESULTS`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from statistics import median

import click

from benchmark.core.constants import BASELINES, EXPORT_PYTHON
from benchmark.core.models import choose, read_models
from benchmark.core.options import concurrency_option
from benchmark.core.results_folder import is_measured, read_json, write_json
from benchmark.data.dataset import open_dataset
from benchmark.measuring.comparison import Baselines, compare_systems
from nemo_triton.contract import Part
from nemo_triton.terminal import exit_codes, options


@click.command()
@click.argument("model", metavar="MODEL")
@click.option(
    "--repository",
    default="model_repository",
    show_default=True,
    metavar="FOLDER",
    type=click.Path(exists=True, path_type=Path),
    help="Model repository to serve.",
)
@click.option(
    "--checkpoint",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The model's .nemo file. Needed to compare with NeMo.",
)
@click.option(
    "--baseline-models",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that benchmark.baselines.baseline_models wrote. Needed to compare with onnx-asr and sherpa-onnx.",
)
@click.option(
    "--faster-whisper",
    "whisper",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Model folder of faster-whisper. Needed to compare with it.",
)
@click.option(
    "--data",
    "dataset",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Data set from benchmark.prepare.",
)
@click.option(
    "--out",
    required=True,
    metavar="RESULTS",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results.",
)
@concurrency_option(16, "Concurrent requests to the server, and the batch size of the baselines (at most 16).")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Passes of each system over the data. More rounds show the spread better.",
)
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(BASELINES),
    help="Leave a baseline out, e.g. a slow one. Repeat the option to leave out several.",
)
@click.option(
    "--reload",
    is_flag=True,
    help="Load each system but the server anew for each round: for models that don't fit the memory several times.",
)
@click.option(
    "--export-python",
    default=EXPORT_PYTHON,
    show_default=True,
    metavar="PYTHON",
    type=click.Path(path_type=Path),
    help="Python with NeMo.",
)
@click.option(
    "--baselines-python",
    default=".venv/baselines/bin/python",
    show_default=True,
    metavar="PYTHON",
    type=click.Path(path_type=Path),
    help="Python with the other baselines.",
)
def compare(
    model: str,
    repository: Path,
    checkpoint: Path | None,
    baseline_models: Path | None,
    whisper: Path | None,
    dataset: Path,
    out: Path,
    concurrency: int,
    rounds: int,
    without: tuple[str, ...],
    reload: bool,
    export_python: Path,
    baselines_python: Path,
) -> int:
    """Compare MODEL, as served, with NeMo, onnx-asr, sherpa-onnx, PocketSphinx and faster-whisper.

    Each round runs every system once, in turn, on the same recordings and the same machine. The report compares speeds
    within each round. A system that can't run is listed with the reason.
    """
    (chosen,) = choose(read_models(repository), [model], repository)
    if chosen.encoder != Part.ENCODER.of(chosen.name):
        raise click.UsageError(
            f"{chosen.name} is the second recognizer of a hybrid, and NeMo decodes with the first; "
            f"compare {chosen.encoder.removesuffix(Part.ENCODER.value)}"
        )
    prepared = open_dataset(dataset)
    file = out / chosen.name / prepared.description.name / "compared.json"
    conditions = {
        "parity_id": chosen.parity_id,
        **prepared.digests,
        "at_once": concurrency,
        "rounds": rounds,
        "without": sorted(without),
        "reload": reload,
    }
    if is_measured(file, conditions):
        click.echo(f"{chosen.name} on {prepared.description.name}: already compared")
        for name, reason in read_json(file)["not_run"].items():
            click.echo(f"{name}: not run: {reason}; fix this and remove {file} to compare again")
        return exit_codes.EXIT_OK
    write_json(out / chosen.name / "model.json", asdict(chosen))
    baselines = Baselines(
        checkpoint=checkpoint,
        baseline_models=baseline_models,
        whisper=whisper,
        without=without,
        export_python=export_python,
        baselines_python=baselines_python,
    )
    results = compare_systems(
        baselines, repository, chosen, prepared, concurrency=concurrency, rounds=rounds, reload=reload
    )
    write_json(file, {"conditions": conditions, **results})
    for system in results["systems"]:
        click.echo(f"{system['name']}: RTFx {results['audio_seconds'] / median(system['seconds']):.1f}")
    for name, reason in results["not_run"].items():
        click.echo(f"{name}: not run: {reason}")
    click.echo(file)
    return exit_codes.EXIT_OK


if __name__ == "__main__":
    options.run(compare)
