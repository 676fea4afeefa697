"""Measure a recognizer's stages one by one in this process, on a GPU or on the CPU.

    python -m benchmark.studies.gpu.stages NAME... --repository model_repository --out FOLDER

Batches hold utterances of LibriSpeech's lengths in random order, as a server receives them. Features and encoder run on
the device, and tensors stay there between them. The decoder runs on the CPU and on the device. The encoder is measured
with several settings of length bucketing. FOLDER gets one JSON file per model, rewritten after each measurement.

Each measurement has three kinds of runs: a new shape (first), the same shape again (repeat), and all batches in turn
(alternating).

Needs numpy, onnx, onnxruntime, click, soundfile, soxr and the demo's recordings; no server, no NeMo.
"""

from __future__ import annotations

import gc
from pathlib import Path

import click
import onnxruntime as ort

from benchmark.studies.gpu import bare_cli, measure_options
from benchmark.studies.gpu.batches import draw_batches, make_batch
from benchmark.studies.gpu.cuts import CUTS
from benchmark.studies.gpu.measure_options import batch_options
from benchmark.studies.gpu.stage import CUDA_OPTIONS, Setup, chosen_device
from benchmark.studies.gpu.stage_measurement import Measurement, Plan
from benchmark.studies.gpu.timing import NO_TIME
from nemo_triton.audio import load_audio
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError
from nemo_triton.manifest import read_manifest
from nemo_triton.terminal import exit_codes

CUT_NAMES = [cut.name for cut in CUTS]


def _options(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    invalid = [value for value in values if "=" not in value]
    if invalid:
        raise click.BadParameter(f"{invalid[0]} is not an option; write NAME=VALUE")
    return dict(value.split("=", 1) for value in values)


@click.command(help=__doc__)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--repository",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model repository.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for results.")
@batch_options("Longest run. A longer one ends its measurement; the model's other cuts and larger batches are skipped.")
@click.option(
    "--cut",
    "cut_names",
    multiple=True,
    type=click.Choice(CUT_NAMES),
    metavar="NAME",
    help="How the encoder cuts a batch into buckets of similar length; repeat for more: "
    f"{'; '.join(CUT_NAMES)}.  [default: all]",
)
@click.option(
    "--profile/--no-profile",
    default=True,
    help="Write onnxruntime's profile of one batch, gzipped. --no-profile saves time.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_options,
    help="Option of onnxruntime's CUDA provider; overrides the server's. Repeat for more.",
)
@click.option(
    "--device",
    type=click.Choice(["cuda", "cpu"]),
    help="Where features and encoder run.  [default: cuda if onnxruntime has its CUDA provider, else cpu]",
)
@click.option("--label", default="", help="Suffix of the result files, to keep those of another run.")
@click.option(
    "--cpu-decoder-threads",
    "threads",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Threads of the decoder on the CPU; 0 for all cores.",
)
def main(
    *,
    names: tuple[str, ...],
    repository: Path,
    out: Path,
    sizes: tuple[int, ...],
    count: int,
    seconds: float,
    slowest: float,
    cut_names: tuple[str, ...],
    profile: bool,
    budget: float,
    options: dict[str, str],
    device: str | None,
    label: str,
    threads: int,
) -> int:
    ort.set_default_logger_severity(3)
    limits = measure_options.limits(seconds=seconds, slowest=slowest, budget=budget)
    pool = [load_audio(utterance.audio) for utterance in read_manifest(DEMO_MANIFEST).utterances]
    plan = Plan(
        repository=repository,
        out=out,
        label=label,
        warm_up=make_batch([pool[0][:SAMPLE_RATE]]),
        batches={size: list(draw_batches(pool, size, count)) for size in sorted(set(sizes))},
        cuts=[cut for cut in CUTS if not cut_names or cut.name in cut_names],
        setup=Setup(chosen_device(device), cuda_options={**CUDA_OPTIONS, **options}),
        decoder_threads=threads,
        profile=profile,
        limits=limits,
    )
    code = exit_codes.EXIT_OK
    for name in names:
        try:
            if limits.no_time_left():
                raise ClientError(NO_TIME)
            Measurement(name, plan).run()
        # onnxruntime's errors have no common base but Exception. One failing model must not stop the others.
        except Exception as error:
            exit_codes.print_error(f"{name}: {bare_cli.describe(error).removeprefix(f'{name}: ')}")
            code = exit_codes.EXIT_PROBLEM
        gc.collect()
    return code


if __name__ == "__main__":
    bare_cli.run(main)
