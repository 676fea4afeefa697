"""Benchmark on a GPU machine: `python -m benchmark.studies.gpu CHECKPOINT... --out FOLDER --report FILE`."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import click
import onnxruntime
from google.protobuf.message import DecodeError

from benchmark.core.models import Model, RepositoryError, read_models
from benchmark.data.dataset import MANIFEST, Description
from benchmark.run import describe, fastest
from benchmark.studies.gpu.chips import find_gpus
from benchmark.studies.gpu.gather import Json, chip_rates, pytorch_rows, served_row
from benchmark.studies.gpu.mixed_speech import write_mixed_speech
from benchmark.studies.gpu.report import page
from benchmark.studies.gpu.served import Loads, measure_pytorch, measure_rates, measure_served
from benchmark.studies.gpu.variants import VARIANTS, Variant, write_variant
from benchmark.studies.precision.run import export_all
from export_scripts.errors import ExportError
from export_scripts.operators.tuning import Target
from export_scripts.precision.choice import PRECISIONS, PrecisionName
from export_scripts.repository.gpu import Lengths, TensorRt
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError, one_line
from nemo_triton.loadtest.provenance import machine, versions
from nemo_triton.manifest import read_manifest
from nemo_triton.terminal import options as cli

ROOT = Path(__file__).parents[3]
PRECISION_SUFFIXES = ("", "_fp16", "_int8")
"""Models of one checkpoint in one repository, by the end of their names."""

CONCURRENCIES = {True: "1,16,64,128,256,512", False: "1,4,16"}
BENCH_FLAGS = {True: "--processes 4 --shared-memory", False: ""}
"""With a GPU, and without one."""


@dataclass(frozen=True)
class Setting:
    """What is the same for all models."""

    repository: Path
    out: Path
    data: Path
    description: Description
    durations: list[float]
    gpus: list[str]
    variants: Sequence[Variant]
    loads: Loads
    export_python: Path
    batch: int
    rounds: int


@click.command()
@click.argument("checkpoints", nargs=-1, metavar="CHECKPOINT...", type=click.Path(path_type=Path))
@click.option(
    "--repository",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="The exported models; a CHECKPOINT that is not in it is exported into it.  [default: OUT/repository]",
)
@click.option(
    "--model",
    "patterns",
    multiple=True,
    metavar="NAME",
    help="A model of the repository, or a pattern; may be given again.  [default: those of the CHECKPOINTs, else all]",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="In which CHECKPOINTs are exported besides fp32; may be given again.  [default: with a GPU fp16]",
)
@click.option("--data", metavar="FOLDER", type=click.Path(path_type=Path), help="A data set of benchmark.prepare.")
@click.option(
    "--speech",
    default=DEMO_MANIFEST,
    metavar="MANIFEST",
    type=click.Path(path_type=Path),
    help="Without --data: speech to make utterances of LibriSpeech's lengths of.  [default: the demo's commands]",
)
@click.option("--utterances", type=click.IntRange(1), default=256, show_default=True, help="So many of them.")
@click.option("--seed", default=0, show_default=True, help="Of their lengths.")
@click.option(
    "--variant",
    "names",
    multiple=True,
    type=click.Choice([variant.name for variant in VARIANTS]),
    help="A way to serve; may be given again.  [default: all]",
)
@click.option(
    "--concurrency",
    callback=cli.number_list(click.IntRange(min=1)),
    default="",
    help=f"Of the closed loops.  [default: {CONCURRENCIES[True]}; without a GPU {CONCURRENCIES[False]}]",
)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Of each loop, about.")
@click.option(
    "--bench", "flags", metavar="FLAGS", help=f"More of bench.py's.  [default: {BENCH_FLAGS[True]}; without a GPU none]"
)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Of PyTorch.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Of all ways, and of PyTorch.")
@click.option("--export-python", default=".venv/export/bin/python", type=click.Path(path_type=Path))
@click.option("--out", required=True, metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path))
@click.option("--report", "report_file", required=True, metavar="FILE", type=click.Path(path_type=Path))
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
    """Serve models in several ways, sweep concurrency, and compare with PyTorch and with what the chip can do.

    Writes FILE (Markdown) and, beside it, .json with its values. OUT keeps what is measured, so that an interrupted run
    goes on. A way that fails costs one line and exit code 2, never the others. Without a GPU it runs on the CPU, and
    the report says so.
    """
    gpus = find_gpus() if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else []
    if gpus:
        # Bound and PyTorch are of one GPU; Triton would serve on all.
        gpus = gpus[:1]
        os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"}
    repository = repository or out / "repository"
    out.mkdir(parents=True, exist_ok=True)
    wanted = {"fp32", *(precisions or (("fp16",) if gpus else ()))}
    target: Target = "gpu" if gpus else "cpu"
    precisions = tuple(name for name in PRECISIONS if name in wanted)
    code = _export_missing(checkpoints, repository, export_python, precisions, target)
    models = choose(read_models(repository), checkpoints, patterns, repository)
    if data is None:
        data = out / "data" / f"mixed_{utterances}_{seed}"
        with cli.progress_bar() as bar:
            task = bar.add_task("making utterances", total=utterances)
            write_mixed_speech(data, speech, utterances, seed, lambda: bar.advance(task))
    data, description = describe(data)
    asked = concurrency or tuple(map(int, CONCURRENCIES[bool(gpus)].split(",")))
    chosen = [variant for variant in VARIANTS if not names or variant.name in names]
    setting = Setting(
        repository,
        out,
        data,
        description,
        read_durations(data),
        gpus,
        [variant for variant in chosen if gpus or not variant.on_gpus],
        Loads(
            ",".join(map(str, asked)),
            seconds,
            tuple(shlex.split(BENCH_FLAGS[bool(gpus)] if flags is None else flags)),
        ),
        export_python,
        batch,
        rounds,
    )
    report, failed = _measure(setting, models, checkpoints)
    report["not_on_cpu"] = [] if gpus else [variant.name for variant in chosen if variant.on_gpus]
    report_file.parent.mkdir(parents=True, exist_ok=True)
    report_file.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    report_file.write_text(page(report), encoding="utf-8")
    click.echo(report_file)
    return max(code, cli.EXIT_PROBLEM if failed else cli.EXIT_OK)


def choose(
    models: Sequence[Model], checkpoints: Sequence[Path], patterns: Sequence[str], repository: Path
) -> list[Model]:
    """The models of the checkpoints, in all precisions that are there, and those that fit a pattern; else all.

    Raises RepositoryError for a pattern that fits none.
    """
    wanted = [*(f"{file.stem}{suffix}" for file in checkpoints for suffix in PRECISION_SUFFIXES), *patterns]
    for pattern in patterns:
        if not any(fnmatchcase(model.name, pattern) for model in models):
            known = ", ".join(model.name for model in models)
            raise RepositoryError(f"{pattern}: fits no model in {repository}, which has {known}")
    return [model for model in models if not wanted or any(fnmatchcase(model.name, name) for name in wanted)]


def read_durations(data: Path) -> list[float]:
    """Seconds of each utterance of a prepared data set."""
    lines = (data / MANIFEST).read_text(encoding="utf-8").splitlines()
    read_manifest(data / MANIFEST)  # raises what is wrong with it, in one line
    return [float(json.loads(line)["duration"]) for line in lines]


def _export_missing(
    checkpoints: Sequence[Path],
    repository: Path,
    python: Path,
    precisions: Sequence[PrecisionName],
    target: Target,
) -> int:
    """Export what the repository lacks of the checkpoints; the exit code."""
    code = cli.EXIT_OK
    for checkpoint in checkpoints:
        try:
            _, refused = export_all(checkpoint, repository, python, precisions, target)
        except (ClientError, OSError) as error:
            cli.print_error(error)
            code = cli.EXIT_PROBLEM
            continue
        for precision, reason in refused.items():
            cli.print_error(f"{checkpoint}: {precision} can't be exported: {reason}")
            code = cli.EXIT_PROBLEM
    return code


def _measure(setting: Setting, models: Sequence[Model], checkpoints: Sequence[Path]) -> tuple[Json, bool]:
    """Everything, one model after the other; the report's values, and whether anything failed."""
    failed = False
    measured_rates = None
    try:
        measured_rates = measure_rates(setting.export_python, setting.gpus, setting.out / "rates.json")
    except ClientError as error:
        cli.print_error(f"the machine's rates: {error}")
        failed = True
    rates = chip_rates(setting.gpus, measured_rates)
    files = {file.stem: file for file in checkpoints}
    rows = []
    for place, model in enumerate(models, start=1):
        row, went_wrong = _measure_model(setting, model, files, rates, f"{place} of {len(models)}")
        rows.append(row)
        failed = failed or went_wrong
    providers = ", ".join(onnxruntime.get_available_providers())
    report = {
        "gpus": setting.gpus,
        "no_gpu": None if setting.gpus else _why_no_gpu(),
        "machine": machine(),
        "versions": versions(),
        "onnxruntime": f"onnxruntime {onnxruntime.__version__} ({providers})",
        "dataset": asdict(setting.description),
        "durations": setting.durations,
        "loads": asdict(setting.loads),
        "ways": {variant.name: variant.what for variant in setting.variants},
        "rates": rates,
        "measured_rates": measured_rates,
        "models": rows,
    }
    return report, failed


def _measure_model(
    setting: Setting, model: Model, checkpoints: dict[str, Path], rates: Json | None, place: str
) -> tuple[Json, bool]:
    base = next((name for name in checkpoints for end in PRECISION_SUFFIXES if model.name == name + end), None)
    row: Json = {
        "name": model.name,
        "precision": model.precision,
        "random_weights": model.random_weights,
        "nemo_class": model.nemo_class,
        "parameters": model.parameters,
        "needs": None,
        "served": [],
        "pytorch": [],
        "no_pytorch": None,
    }
    failed, pytorch = False, None
    if base is None:
        row["no_pytorch"] = "no checkpoint was given"
    else:
        click.echo(f"{model.name} ({place}): PyTorch")
        file = setting.out / "results" / base / "pytorch.json"
        arguments = (setting.data, setting.description, setting.batch, setting.rounds, setting.gpus, file)
        try:
            pytorch = measure_pytorch(setting.export_python, checkpoints[base], *arguments)
            row["needs"] = pytorch["needs"]
        except (ClientError, OSError) as error:
            cli.print_error(f"{model.name}, PyTorch: {error}")
            row["no_pytorch"], failed = one_line(error), True
    nemo_texts = pytorch["measured"]["fp32"]["texts"] if pytorch else None
    context = {"durations": setting.durations, "rates": rates, "nemo_texts": nemo_texts}
    if pytorch is not None and base == model.name:
        row["pytorch"] = pytorch_rows(pytorch, context)
    rows, went_wrong = _serve(setting, model, row, context, place)
    row["served"] = rows
    return row, failed or went_wrong


def _serve(setting: Setting, model: Model, row: Json, context: Json, place: str) -> tuple[list[Json], bool]:
    """A sweep of each way, then rounds of all ways in turn, each at its best concurrency."""
    lengths = Lengths(shortest=min(setting.durations), longest=max(setting.durations))
    tensorrt = TensorRt(lengths, str((setting.out / "engines").resolve()))
    not_run: dict[str, str] = {}
    sweeps: dict[str, Json] = {}
    rounds: dict[str, list[Json]] = {variant.name: [] for variant in setting.variants}

    def measure(variant: Variant, kind: str, concurrencies: str) -> Json | None:
        if variant.name in not_run:
            return None
        click.echo(f"{model.name} ({place}): {variant.name}, {kind}")
        served = setting.out / "variants" / model.name / variant.name
        file = setting.out / "results" / model.name / f"{variant.name}.{kind.replace(' ', '_')}.json"
        conditions = {"parity_id": model.parity_id, "variant": variant.name, "kind": kind, "gpus": setting.gpus}
        loads = replace(setting.loads, concurrencies=concurrencies)
        try:
            write_variant(setting.repository, model.name, served, variant, tensorrt)
            return measure_served(served, model.name, setting.data, setting.description, loads, file, conditions)
        except (ClientError, ExportError, DecodeError, OSError) as error:
            cli.print_error(f"{model.name}, {variant.name}: {error}")
            not_run[variant.name] = one_line(error)
            return None

    for variant in setting.variants:
        if (found := measure(variant, "sweep", setting.loads.concurrencies)) is not None:
            sweeps[variant.name] = found
    for number in range(1, setting.rounds + 1):
        for variant in setting.variants:
            if variant.name in sweeps:
                best = fastest(sweeps[variant.name]["loads"])["load"]["concurrency"]
                if (found := measure(variant, f"round {number}", str(best))) is not None:
                    rounds[variant.name].append(found)
    rows = [
        {"name": name, "not_run": not_run[name]}
        if name in not_run
        else served_row(name, sweeps[name], rounds[name], row, context)
        for name in rounds
    ]
    return rows, bool(not_run)


def _why_no_gpu() -> str:
    gpus = find_gpus()
    if gpus:
        build = "onnxruntime is its CPU build (`make install SERVER=server-gpu`)"
        return f"the server can't use {', '.join(gpus)}, since {build}"
    return "this machine has none that nvidia-smi shows"


if __name__ == "__main__":
    cli.run(gpu)
