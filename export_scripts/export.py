"""Export NeMo recognizers into a Triton model repository.

    python export_scripts/export.py CHECKPOINT... --repository FOLDER

A CHECKPOINT is a .nemo file, the name of a pretrained model (NeMo downloads it), or a pattern of listed names such as
'stt_en_citrinet_*' or 'parakeet-*'. Each becomes a recognizer of the same name: a chain of ONNX models, from audio to
text. Its transcripts are compared with NeMo's before it is published. If anything fails, nothing of that checkpoint is
published, and the next one is exported. docs/export.md says which models work, and when to use which option.

Exit code 0: all were exported. 1: a model differs from NeMo, changes more words than allowed, or one of --all or
--family is missing. 2: a CHECKPOINT can't be read or exported, or the repository can't be written. 130: interrupted.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

try:
    import click

    from export_scripts.checkpoints.catalogue import FAMILIES, PUBLISHED, select
    from export_scripts.checkpoints.names import check_suffix
    from export_scripts.errors import ExportError, ParityError
    from export_scripts.export_checkpoint import ExportSettings
    from export_scripts.operators.tuning import Target
    from export_scripts.percentage import percentage
    from export_scripts.precision.choice import (
        CALIBRATED,
        MAX_WORD_CHANGE,
        PRECISIONS,
        REDUCED,
        RULES,
        Precision,
        PrecisionName,
    )
    from export_scripts.progress import export_each, print_catalogue
    from export_scripts.recordings import NO_RECORDINGS
    from export_scripts.repository.config import MAX_BATCH_SIZES, Serving
    from export_scripts.repository.durations import read_lengths
    from export_scripts.repository.gpu import ENGINE_CACHE, Lengths, TensorRt
    from export_scripts.repository.publish import publishing
    from export_scripts.verify.probes import read_long_enough, read_probes
    from nemo_triton.contract import MAX_AUDIO_SECONDS
    from nemo_triton.terminal.exit_codes import run_and_exit
    from nemo_triton.terminal.native_output import only_python_prints
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    # Imported from this folder, since the package export_scripts itself may be missing.
    from missing_package import report

    sys.exit(report(missing))

LONGEST_AUDIO_SECONDS = 24 * 3600
"""Highest --max-audio-seconds. Far beyond any memory; lengths in samples must fit int32."""


@click.command(help=__doc__)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help=f"Export the first list, {len(PUBLISHED)} models.")
@click.option(
    "--family",
    "families",
    type=click.Choice(FAMILIES),
    multiple=True,
    help="Export the models of a family in both lists; repeat it for more families.",
)
@click.option(
    "--list",
    "only_list",
    is_flag=True,
    help="List models with size, published word error rates and licence, and exit. --family lists one family.",
)
@click.option(
    "--repository", type=click.Path(path_type=Path), help="Model repository to write; it is created if needed."
)
@click.option(
    "--target",
    type=click.Choice(list(MAX_BATCH_SIZES)),
    default="cpu",
    show_default=True,
    help="Hardware to tune for; use gpu if the server has one. gpu: larger batches, fewer length buckets, convolutions "
    "as matrix products. Each export runs on CPUs and GPUs, near ties may differ.",
)
@click.option(
    "--max-batch-size",
    type=click.IntRange(1),
    help="Largest batch of encoder and decoder, in requests. Smaller saves memory, larger raises throughput on a GPU. "
    "Shared stages keep the default.  [default: "
    + ", ".join(f"{size} for {target}" for target, size in MAX_BATCH_SIZES.items())
    + "]",
)
@click.option(
    "--queue-delay-us",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Longest wait for a fuller batch, in microseconds. Raise it on a busy GPU: higher throughput, higher latency.",
)
@click.option(
    "--max-queue-size",
    type=click.IntRange(0),
    help="Requests that may wait for the encoder; more are refused as UNAVAILABLE, and this project's client retries "
    "them. Lower it for a shorter latency under overload. 0: unlimited.  [default: cpu two batches, gpu one]",
)
@click.option(
    "--queue-seconds",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Longest wait for the encoder; a request that waits longer is refused. Set it to your clients' deadline, so "
    "that nothing is computed for clients that have left. 0: unlimited, as it must be for several instances before "
    "Triton 26.08, which would use fewer and fewer of them.",
)
@click.option(
    "--encoders",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Encoder instances, each with its own copy of the weights; with GPUs, this many per GPU. For the highest "
    "throughput on a CPU use one per core, with --encoder-threads 1.",
)
@click.option(
    "--encoder-threads",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Threads per encoder instance on a CPU. 0 uses all cores: lowest latency for a single request.",
)
@click.option(
    "--max-audio-seconds",
    type=click.IntRange(1, LONGEST_AUDIO_SECONDS),
    help="Longest audio that the model takes; longer requests get an error. Raise it if the server has the memory "
    "(docs/serve.md#memory).  [default: what lets 16 concurrent requests fit 8 GiB, at most "
    f"{MAX_AUDIO_SECONDS}]",
)
@click.option(
    "--accelerator",
    type=click.Choice(["cuda", "tensorrt"]),
    default="cuda",
    show_default=True,
    help="Execution provider of the encoder on a GPU. tensorrt may be faster, and builds its engines while "
    "the model loads, which takes minutes. A server without a GPU serves the same repository.",
)
@click.option(
    "--decoder-device",
    type=click.Choice(["cpu", "gpu"]),
    default="cpu",
    show_default=True,
    help="Where the decoder runs on a server with a GPU. cpu: it decodes while the GPU encodes the next batch. gpu: "
    "try it if CPU cores are the limit; an added stage NAME_text writes the text on the CPU.",
)
@click.option(
    "--lengths",
    type=click.Path(path_type=Path),
    help="For tensorrt: folder or manifest. Engines are built for its shortest and longest recording, by the "
    "manifest's durations if it has them.  [default: 1 to 35 s]",
)
@click.option(
    "--engine-cache",
    default=ENGINE_CACHE,
    show_default=True,
    help="For tensorrt: folder where the server keeps its engines, relative to where tritonserver is started.",
)
@click.option(
    "--probes",
    type=click.Path(path_type=Path),
    help="Folder or manifest of recordings on which the export is compared with NeMo. Use your own recordings; "
    "transcripts aren't needed.  [default: recordings of the demo]",
)
@click.option(
    "--precision",
    "precision_name",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help=f"Precision of the encoder. {'; '.join(f'{name} {RULES[name].purpose}' for name in REDUCED)}.",
)
@click.option(
    "--max-word-change",
    type=percentage,
    metavar="PERCENTAGE",
    help=f"{' and '.join(REDUCED)} exports fail if they change more of NeMo's words than this; write 2% or 0.02.  "
    f"[default: {', '.join(f'{100 * MAX_WORD_CHANGE[name]:g}% for {name}' for name in REDUCED)}]",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help=f"For {' and '.join(CALIBRATED)}: folder or manifest of recordings that set the ranges of activations. If "
    "they are also probes, too few changed words are counted.  [default: the probes]",
)
@click.option(
    "--name-suffix",
    default="",
    metavar="TEXT",
    help="Added to each name, so that several exports of a checkpoint serve side by side: _int8 makes coffee_ctc_int8.",
)
def main(
    checkpoints: tuple[str, ...],
    everything: bool,
    families: tuple[str, ...],
    only_list: bool,
    repository: Path | None,
    target: Target,
    max_batch_size: int | None,
    lengths: Path | None,
    engine_cache: str,
    probes: Path | None,
    precision_name: PrecisionName,
    max_word_change: float | None,
    calibration: Path | None,
    name_suffix: str,
    **serving: Any,
) -> None:
    if only_list:
        print_catalogue(families)
        return
    _check_precision(precision_name, target, max_word_change, calibration)
    sources, unknown_patterns = select(checkpoints, families, everything)
    if not sources and not unknown_patterns:
        raise click.UsageError("Give a CHECKPOINT, a --family or --all.")
    if repository is None:
        raise click.UsageError("Give --repository FOLDER, the model repository to write.")
    for pattern in unknown_patterns:
        click.echo(f"error: {pattern}: matches no listed model; see --list", err=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if logging.lastResort:
        # Says which probe is damaged.
        logging.lastResort.setFormatter(logging.Formatter("warning: %(message)s"))
    try:
        check_suffix(name_suffix)
        # A percentage of changed words needs many words, so reduced precisions use all recordings.
        with only_python_prints():
            recordings = read_probes(probes, most=None) if precision_name in REDUCED else read_probes(probes)
            calibrating = read_long_enough(calibration) if calibration else recordings.recordings
            expected_lengths = read_lengths(lengths) if lengths else Lengths()
        limit = MAX_WORD_CHANGE[precision_name] if max_word_change is None else max_word_change
        settings = ExportSettings(
            repository=repository,
            serving=Serving(
                target=target,
                max_batch_size=max_batch_size or MAX_BATCH_SIZES[target],
                tensorrt=TensorRt(lengths=expected_lengths, cache=engine_cache),
                **serving,
            ),
            probes=recordings,
            precision=Precision(precision_name, limit, calibrating if precision_name in CALIBRATED else NO_RECORDINGS),
            suffix=name_suffix,
        )
        with publishing(repository):
            pass  # Fails early if the repository can't be written, before NeMo is loaded.
    except ExportError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    # NeMo and PyTorch log and warn much that helps nobody.
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    failures = export_each(list(sources), settings)
    if everything or families:
        missing = f"; missing: {', '.join(failures)}" if failures else ""
        click.echo(f"{len(sources) - len(failures)} of {len(sources)} models are in {repository}{missing}")
    bad_input = any(sources[source] and not isinstance(failure, ParityError) for source, failure in failures.items())
    sys.exit(2 if bad_input or unknown_patterns else 1 if failures else 0)


def _check_precision(
    name: PrecisionName, target: Target, max_word_change: float | None, calibration: Path | None
) -> None:
    if max_word_change is not None and name not in REDUCED:
        raise click.UsageError(
            f"--max-word-change is for --precision {' and '.join(REDUCED)}; {name} has NeMo's words. Leave it out."
        )
    if target == "gpu" and RULES[name].cpu_only:
        raise click.UsageError(f"--precision {name} runs on CPUs only; leave out --target gpu.")
    if calibration is not None and name not in CALIBRATED:
        raise click.UsageError(f"--calibration is for --precision {' and '.join(CALIBRATED)}; leave it out.")


if __name__ == "__main__":
    run_and_exit(main)
