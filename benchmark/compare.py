"""The command that measures a served model beside others: `python -m benchmark.compare MODEL --data FOLDER ...`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from statistics import median

import click

from benchmark.core.constants import BASELINES, EXPORT_PYTHON
from benchmark.core.models import choose, read_models
from benchmark.core.results_folder import is_measured, read_json, write_json
from benchmark.data.dataset import open_dataset
from benchmark.measuring.comparison import Compared, compare_systems
from nemo_triton.terminal import exit_codes, options


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--repository", default="model_repository", type=click.Path(exists=True, path_type=Path))
@click.option("--checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="For NeMo itself.")
@click.option(
    "--baseline-models",
    "--peer-models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="What benchmark.baselines.baseline_models made of the checkpoint, for onnx-asr and sherpa-onnx.",
)
@click.option(
    "--faster-whisper", "whisper", type=click.Path(path_type=Path), help="A model folder of faster-whisper's form."
)
@click.option("--data", "dataset", required=True, type=click.Path(path_type=Path), help="Of benchmark.prepare.")
@click.option("--out", required=True, metavar="RESULTS", type=click.Path(file_okay=False, path_type=Path))
@click.option("--at-once", type=click.IntRange(1), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--without", multiple=True, type=click.Choice(BASELINES), help="A baseline to leave out; may be given again."
)
@click.option("--export-python", default=EXPORT_PYTHON, type=click.Path(path_type=Path))
@click.option(
    "--baselines-python", "--peers-python", default=".venv/baselines/bin/python", type=click.Path(path_type=Path)
)
def compare(
    model: str,
    repository: Path,
    checkpoint: Path | None,
    baseline_models: Path | None,
    whisper: Path | None,
    dataset: Path,
    out: Path,
    at_once: int,
    rounds: int,
    without: tuple[str, ...],
    export_python: Path,
    baselines_python: Path,
) -> int:
    """Transcribe a data set with MODEL as served and with other systems, each in turn, in so many rounds.

    All get the same recordings on the same machine; ratios are then taken round by round. A system that can't run is
    named with its reason.
    """
    (chosen,) = choose(read_models(repository), [model], repository)
    prepared = open_dataset(dataset)
    file = out / chosen.name / prepared.description.name / "compared.json"
    conditions = {
        "parity_id": chosen.parity_id,
        **prepared.digests,
        "at_once": at_once,
        "rounds": rounds,
        "without": sorted(without),
    }
    if is_measured(file, conditions):
        click.echo(f"{chosen.name} on {prepared.description.name}: compared already")
        for name, reason in read_json(file)["not_run"].items():
            click.echo(f"{name}: not run: {reason}; with that mended, remove {file} to compare again")
        return exit_codes.EXIT_OK
    write_json(out / chosen.name / "model.json", asdict(chosen))
    compared = Compared(
        checkpoint=checkpoint,
        baseline_models=baseline_models,
        whisper=whisper,
        without=without,
        export_python=export_python,
        baselines_python=baselines_python,
    )
    results = compare_systems(compared, repository, chosen, prepared, at_once=at_once, rounds=rounds)
    write_json(file, {"conditions": conditions, **results})
    for system in results["systems"]:
        click.echo(f"{system['name']}: RTFx {results['audio_seconds'] / median(system['seconds']):.1f}")
    for name, reason in results["not_run"].items():
        click.echo(f"{name}: not run: {reason}")
    click.echo(file)
    return exit_codes.EXIT_OK


if __name__ == "__main__":
    options.run(compare)
