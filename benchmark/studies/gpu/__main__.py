"""Benchmark on a GPU machine: `python -m benchmark.studies.gpu CHECKPOINT... --out FOLDER --report FILE`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import click
import onnxruntime

from benchmark.core.constants import EXPORT_PYTHON
from benchmark.core.models import Model, choose, read_models
from benchmark.core.results_folder import write_json
from benchmark.data.dataset import open_dataset
from benchmark.studies.exports import export_all, precision_suffix
from benchmark.studies.gpu.gpus import find_gpus
from benchmark.studies.gpu.mixed_speech import write_mixed_speech
from benchmark.studies.gpu.report import page
from benchmark.studies.gpu.served import Loads
from benchmark.studies.gpu.study import Setting, Study
from benchmark.studies.gpu.variants import VARIANTS
from export_scripts.operators.tuning import Target
from export_scripts.precision.choice import PRECISIONS, PrecisionName
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError
from nemo_triton.terminal import exit_codes, options

CONCURRENCIES = {True: "1,16,64,128,256,512", False: "1,4,16"}
"""Default of --concurrency, with a GPU and without one."""
BENCH_FLAGS = {True: "--processes 4 --shared-memory", False: ""}
"""Default of --bench, with a GPU and without one."""


@click.command()
@click.argument("checkpoints", nargs=-1, metavar="CHECKPOINT...", type=click.Path(path_type=Path))
@click.option(
    "--repository",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Model repository. CHECKPOINTs that it lacks are exported into it.  [default: OUT/repository]",
)
@click.option(
    "--model",
    "patterns",
    multiple=True,
    metavar="NAME",
    help="Model of the repository, or a pattern; repeat for more.  [default: those of the CHECKPOINTs, or all]",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="Precision to export CHECKPOINTs in, in addition to fp32; repeat for more.  [default: fp16 with a GPU]",
)
@click.option(
    "--data",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Data set written by benchmark.prepare. Without it, utterances are made from --speech.",
)
@click.option(
    "--speech",
    default=DEMO_MANIFEST,
    metavar="MANIFEST",
    type=click.Path(path_type=Path),
    help="Recordings that utterances of LibriSpeech's lengths are cut from.  [default: the demo's recordings]",
)
@click.option(
    "--utterances", type=click.IntRange(1), default=256, show_default=True, help="Utterances to make from --speech."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the lengths of these utterances.")
@click.option(
    "--variant",
    "names",
    multiple=True,
    type=click.Choice([variant.name for variant in VARIANTS]),
    help="Serving variant to measure; repeat for more.  [default: all]",
)
@click.option(
    "--concurrency",
    callback=options.number_list(click.IntRange(min=1)),
    default="",
    help="Concurrent requests; a comma-separated list is a sweep.  "
    f"[default: {CONCURRENCIES[True]}; without a GPU {CONCURRENCIES[False]}]",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Approximate length of a load."
)
@click.option(
    "--bench",
    "flags",
    metavar="FLAGS",
    help=f"More flags for bench.py.  [default: {BENCH_FLAGS[True]}; without a GPU none]",
)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Batch size in PyTorch.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Rounds of all variants and of PyTorch; more rounds show the spread.",
)
@click.option(
    "--export-python",
    default=EXPORT_PYTHON,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Python of the export environment.",
)
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results; an interrupted run continues from them.",
)
@click.option(
    "--report",
    "report_file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Markdown file to write.",
)
def gpu(
    checkpoints: tuple[Path, ...],
    repository: Path | None,
    patterns: tuple[str, ...],
    precisions: tuple[PrecisionName, ...],
    data: Path | None,
    speech: Path,
    utterances: int,
    seed: int,
    names: tuple[str, ...],
    concurrency: tuple[int, ...],
    seconds: float,
    flags: str | None,
    batch: int,
    rounds: int,
    export_python: Path,
    out: Path,
    report_file: Path,
) -> int:
    """Serve models in several variants, sweep concurrency, and compare with PyTorch and the GPU's roofline.

    Writes FILE (Markdown) and its values into OUT (JSON). An interrupted run continues. A variant that fails prints one
    error line and sets exit code 2; the others are still measured. Without a GPU it runs on the CPU, and the report
    says so.
    """
    gpus = find_gpus() if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else []
    if gpus:
        # Roofline and PyTorch use one GPU. Without this, Triton would serve on all.
        gpus = gpus[:1]
        os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"}
    repository = repository or out / "repository"
    out.mkdir(parents=True, exist_ok=True)
    chosen_precisions = {"fp32", *(precisions or (("fp16",) if gpus else ()))}
    target: Target = "gpu" if gpus else "cpu"
    precisions = tuple(name for name in PRECISIONS if name in chosen_precisions)
    code = _export_missing(checkpoints, repository, export_python, precisions, target)
    models = _choose(read_models(repository), checkpoints, patterns, repository)
    dataset = open_dataset(data or _mixed_speech(out, speech, utterances, seed))
    concurrencies = concurrency or tuple(map(int, CONCURRENCIES[bool(gpus)].split(",")))
    chosen = [variant for variant in VARIANTS if not names or variant.name in names]
    setting = Setting(
        repository=repository,
        out=out,
        dataset=dataset,
        durations=dataset.durations(),
        gpus=gpus,
        variants=[variant for variant in chosen if gpus or not variant.on_gpus],
        loads=Loads(
            concurrencies=",".join(map(str, concurrencies)),
            seconds=seconds,
            flags=tuple(shlex.split(BENCH_FLAGS[bool(gpus)] if flags is None else flags)),
        ),
        export_python=export_python,
        batch=batch,
        rounds=rounds,
    )
    study = Study(setting, {file.stem: file for file in checkpoints})
    report = study.measure(models)
    report["not_on_cpu"] = [] if gpus else [variant.name for variant in chosen if variant.on_gpus]
    write_json(out / f"{report_file.stem}.json", report)
    report_file.parent.mkdir(parents=True, exist_ok=True)
    report_file.write_text(page(report), encoding="utf-8")
    click.echo(report_file)
    return max(code, exit_codes.EXIT_PROBLEM if study.failed else exit_codes.EXIT_OK)


def _mixed_speech(out: Path, speech: Path, count: int, seed: int) -> Path:
    """Make a data set of `count` utterances of LibriSpeech's lengths. Returns its folder."""
    folder = out / "data" / f"mixed_{count}_{seed}"
    with options.progress_bar() as bar:
        task = bar.add_task("making utterances", total=count)
        write_mixed_speech(folder, speech, count=count, seed=seed, done=lambda: bar.advance(task))
    return folder


def _choose(
    models: Sequence[Model], checkpoints: Sequence[Path], patterns: Sequence[str], repository: Path
) -> list[Model]:
    """Choose the models of the checkpoints, in all exported precisions, and those that match a pattern.

    Without checkpoints and patterns, all models are chosen.

    Raises:
        RepositoryError: A pattern matches no model.
    """
    if not checkpoints and not patterns:
        return list(models)
    names = {f"{file.stem}{precision_suffix(precision)}" for file in checkpoints for precision in PRECISIONS}
    names |= {model.name for model in choose(models, patterns, repository)}
    return [model for model in models if model.name in names]


def _export_missing(
    checkpoints: Sequence[Path],
    repository: Path,
    python: Path,
    precisions: Sequence[PrecisionName],
    target: Target,
) -> int:
    """Export the checkpoints that the repository lacks. Returns the exit code."""
    code = exit_codes.EXIT_OK
    for checkpoint in checkpoints:
        try:
            _, refused = export_all(checkpoint, repository, python, precisions=precisions, target=target)
        except (ClientError, OSError) as error:
            exit_codes.print_error(error)
            code = exit_codes.EXIT_PROBLEM
            continue
        for precision, reason in refused.items():
            exit_codes.print_error(f"{checkpoint}: {precision} not exported: {reason}")
            code = exit_codes.EXIT_PROBLEM
    return code


if __name__ == "__main__":
    options.run(gpu)
