"""Export NeMo recognizers into a Triton model repository.

    python export_scripts/export.py CHECKPOINT... --repository model_repository

A CHECKPOINT is a local .nemo file, the name of a pretrained model, which NeMo downloads, or a pattern of names such as
'stt_en_citrinet_*'. Each becomes a chain of ONNX models and an ensemble of the checkpoint's name. It is compared with
NeMo on a set of recordings before it is published. Where anything fails, nothing of it is published, and the next
CHECKPOINT is exported.

Exit code 0: all were exported. 1: a model differs from NeMo, changes more words than allowed, or one of --all or of a
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
    from rich.console import Console

    from export_scripts.checkpoints.catalogue import CATALOGUE, NEMO_CLASSES, select
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
    from export_scripts.progress import catalogue_table, export_each
    from export_scripts.recordings import NO_RECORDINGS, read_recordings
    from export_scripts.repository.config import MAX_BATCH_SIZES, Serving
    from export_scripts.repository.durations import read_lengths
    from export_scripts.repository.gpu import ENGINE_CACHE, Lengths, TensorRt
    from export_scripts.repository.publish import publishing
    from export_scripts.verify.probes import read_probes
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    # From this file's folder: the package export_scripts may be what is missing.
    from missing_package import report

    sys.exit(report(missing))

LIST_WIDTH = 150


@click.command(help=__doc__)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help=f"Export all {len(CATALOGUE)} models of the catalogue.")
@click.option(
    "--family", "families", type=click.Choice(list(NEMO_CLASSES)), multiple=True, help="Export a family of them."
)
@click.option("--list", "only_list", is_flag=True, help="Show the catalogue instead of exporting.")
@click.option("--repository", type=click.Path(path_type=Path), help="Model repository to write.")
@click.option(
    "--target",
    type=click.Choice(list(MAX_BATCH_SIZES)),
    default="cpu",
    show_default=True,
    help="What the models are tuned for: `gpu` takes larger batches, cuts them into fewer buckets, and turns "
    "convolutions into matrix products. Either target runs on both, with the same texts.",
)
@click.option(
    "--max-batch-size",
    type=click.IntRange(1),
    help="Requests that encoder and decoder take at once.  [default: "
    + ", ".join(f"{size} for {target}" for target, size in MAX_BATCH_SIZES.items())
    + "; shared stages always take the default]",
)
@click.option(
    "--queue-delay-us",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How long a request may wait for others to share its batch, in microseconds.",
)
@click.option(
    "--encoders",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Instances of the encoder, each with its own copy of the model; on a server with GPUs, this many per GPU. "
    "On a CPU, one instance per core with one thread each gives the highest throughput under load.",
)
@click.option(
    "--encoder-threads",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Threads per encoder on a CPU. 0 uses all cores: lowest latency for a single request.",
)
@click.option(
    "--accelerator",
    type=click.Choice(["cuda", "tensorrt"]),
    default="cuda",
    show_default=True,
    help="What runs the encoder on a GPU. A server without a GPU serves the same repository.",
)
@click.option(
    "--decoder-device",
    type=click.Choice(["cpu", "gpu"]),
    default="cpu",
    show_default=True,
    help="Where the decoder runs if the server has a GPU. cpu: it decodes while the GPU encodes the next batch. "
    "gpu: the text is then made by another stage, NAME_text, on the CPU.",
)
@click.option(
    "--lengths",
    type=click.Path(path_type=Path),
    help="Manifest with the durations that TensorRT's engines are built for.  [default: 1 to 35 s]",
)
@click.option(
    "--engine-cache",
    default=ENGINE_CACHE,
    show_default=True,
    help="Where the server keeps TensorRT's engines; a relative folder is relative to where it was started.",
)
@click.option(
    "--probes",
    type=click.Path(path_type=Path),
    help="Folder of recordings, or manifest, to compare with NeMo on, instead of some of the demo's.",
)
@click.option(
    "--precision",
    "precision_name",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help=f"Of the encoder. {'; '.join(f'{name} {RULES[name].purpose}' for name in REDUCED)}.",
)
@click.option(
    "--max-word-change",
    type=percentage,
    metavar="PERCENTAGE",
    help=f"{' and '.join(REDUCED)} exports fail if they change more than this part of NeMo's words, as 2% or 0.02.  "
    f"[default: {', '.join(f'{100 * MAX_WORD_CHANGE[name]:g}% for {name}' for name in REDUCED)}]",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help=f"Folder of recordings, or manifest, from which {' and '.join(CALIBRATED)} learns the ranges of activations.  "
    "[default: the probes]",
)
@click.option("--name-suffix", default="", metavar="TEXT", help="Added to the names, as _int8 in coffee_ctc_int8.")
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
        Console(width=LIST_WIDTH).print(catalogue_table())
        return
    _check_precision(precision_name, target, max_word_change, calibration)
    if repository is None:
        raise click.UsageError("Missing option '--repository'.")
    sources, unknown_patterns = select(checkpoints, families, everything)
    for pattern in unknown_patterns:
        click.echo(f"error: {pattern}: fits none of the models in the catalogue, see --list", err=True)
    if not sources and not unknown_patterns:
        raise click.UsageError("Name a CHECKPOINT, a --family or --all.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    try:
        check_suffix(name_suffix)
        # A percentage of words needs many of them.
        recordings = read_probes(probes, most=None) if precision_name in REDUCED else read_probes(probes)
        limit = MAX_WORD_CHANGE[precision_name] if max_word_change is None else max_word_change
        learnt = read_recordings(calibration) if calibration else recordings.recordings
        settings = ExportSettings(
            repository=repository,
            serving=Serving(
                target=target,
                max_batch_size=max_batch_size or MAX_BATCH_SIZES[target],
                tensorrt=TensorRt(lengths=read_lengths(lengths) if lengths else Lengths(), cache=engine_cache),
                **serving,
            ),
            probes=recordings,
            precision=Precision(precision_name, limit, learnt if precision_name in CALIBRATED else NO_RECORDINGS),
            suffix=name_suffix,
        )
        with publishing(repository):
            pass  # A repository that can't be written is known before NeMo is loaded.
    except ExportError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
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
            f"--max-word-change is for --precision {' and '.join(REDUCED)}; in {name} texts are NeMo's."
        )
    if target == "gpu" and RULES[name].cpu_only:
        raise click.UsageError(f"--precision {name} is for CPUs; leave out --target gpu.")
    if calibration is not None and name not in CALIBRATED:
        raise click.UsageError(f"--calibration is for --precision {' and '.join(CALIBRATED)}.")


if __name__ == "__main__":
    main()
