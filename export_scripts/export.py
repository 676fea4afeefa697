"""Export NeMo recognizers into a Triton model repository.

    python export_scripts/export.py CHECKPOINT... --repository model_repository

A CHECKPOINT is a local .nemo file, the name of a pretrained model, which NeMo downloads, or a pattern of
names such as 'stt_en_citrinet_*'. Each becomes a chain of ONNX models and an ensemble of the
checkpoint's name, compared with NeMo on a set of recordings before it is published: all of it or, where
anything fails, nothing. One that fails does not stop the others.

Exit code 0 where all were exported; 2 where a CHECKPOINT can't be read or exported or the repository
can't be written; 1 where one does not give NeMo's results, or changes more words than its precision may,
or one of --all or of a --family is missing; 130 where interrupted.
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

# Who lacks these has most likely not activated the environment that has them, and is better told so than shown where.
try:
    import click
    from rich.console import Console
    from rich.status import Status
    from rich.table import Table

    from export_scripts.check import check_repository
    from export_scripts.checkpoints.catalogue import CATALOGUE, FRONT_ENDS, NEMO_CLASSES, select
    from export_scripts.checkpoints.checkpoint import KINDS, Checkpoint, open_checkpoint
    from export_scripts.errors import ExportError, ParityError
    from export_scripts.operators.tuning import Target
    from export_scripts.percentage import share
    from export_scripts.precision.choice import FP32, MAX_WORD_CHANGE, PRECISIONS, Precision, PrecisionName
    from export_scripts.repository.config import MAX_BATCH_SIZES, Serving
    from export_scripts.repository.durations import read_lengths
    from export_scripts.repository.existing import Published, find_published
    from export_scripts.repository.gpu import ENGINE_CACHE, Accelerator, Lengths, TensorRt
    from export_scripts.repository.names import Part, check_suffix
    from export_scripts.repository.publish import publishing
    from export_scripts.verify.probes import Probes, read_probes, read_recordings
    from export_scripts.verify.recordings import NO_RECORDINGS
except ModuleNotFoundError as missing:
    if __name__ != "__main__":
        raise
    print(
        f"error: there is no module {missing.name} in this Python; activate the environment for exports: "
        ". .venv/export/bin/activate (see README.md, Install)",
        file=sys.stderr,
    )
    sys.exit(2)

LIST_WIDTH = 150


def export(
    source: str,
    repository: Path,
    serving: Serving,
    probes: Probes,
    report: Callable[[str], None] = lambda _: None,
    precision: Precision = FP32,
    suffix: str = "",
) -> str:
    """Export one checkpoint and publish it; returns a line that sums up its parity with NeMo and what it replaced.

    probes: to compare on; report: called with the name of each part of the work as it begins;
    suffix: added to the checkpoint's name
    Raises ExportError, and leaves the repository as it was, where anything fails.
    """
    with publishing(repository) as folder:
        report("loads NeMo and the checkpoint")
        checkpoint = open_checkpoint(source, suffix)
        replaced = find_published(repository, checkpoint.name)
        _check_replaceable(source, checkpoint, replaced)
        # Both import NeMo and PyTorch, which take half a minute that a wrong argument need not cost.
        from export_scripts.chain import ensembles, write_recognizer
        from export_scripts.verify.parity import verify

        report("writes the stages")
        write_recognizer(folder, checkpoint, serving, precision)
        known = set(check_repository(repository))
        problems = [problem for problem in check_repository(repository, folder) if problem not in known]
        if problems:
            raise ExportError(f"{source}: does not fit the repository: {'; '.join(problems)}")
        report("compares with NeMo")
        parity = verify(checkpoint, folder, probes, precision)
        for ensemble in ensembles(checkpoint):
            parity.publish(folder / ensemble)
        line = parity.summary()
        if replaced:
            line += f"; replaced {replaced.described(parity.checkpoint_sha256)}"
        text = Part.TEXT.of(checkpoint.name)
        if (repository / text).exists() and not (folder / text).exists():
            line += f"; {text}, of an earlier export, is no longer used and can be deleted"
        return line


def _check_replaceable(source: str, checkpoint: Checkpoint, there: Published | None) -> None:
    """Parts that only the other kind of recognizer has would be left behind and fit nothing."""
    if there and there.nemo_class in KINDS and KINDS[there.nemo_class] != KINDS[checkpoint.model_class]:
        raise ExportError(
            f"{source}: {there.name} is there already, from another checkpoint ({there.nemo_class}): export to another "
            "repository or give it another name by --name-suffix"
        )


@click.command(help=__doc__)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Export all 22 models of the catalogue.")
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
    help="What the models are tuned for: `gpu` takes larger batches, cuts them into fewer groups, and turns "
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
    help="Microseconds that a request may wait for company.",
)
@click.option(
    "--encoders",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Instances of the encoder, each with its own copy of the model; on a server with GPUs, so many on each. "
    "On a CPU under load as many as cores, with one thread each, do more in all.",
)
@click.option(
    "--encoder-threads",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Threads of each on a CPU; 0 takes all cores, which answers a request that is alone the soonest.",
)
@click.option(
    "--accelerator",
    type=click.Choice(["cuda", "tensorrt"]),
    default="cuda",
    show_default=True,
    help="What runs the encoder on a GPU; a server without one serves the same repository.",
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
    help="Folder of recordings, or manifest, on which to compare with NeMo, instead of some of the demo's.",
)
@click.option(
    "--precision",
    "precision_name",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of the encoder: fp16 halves its size and is for GPUs; int8 is for CPUs.",
)
@click.option(
    "--max-word-change",
    type=share,
    metavar="SHARE",
    help="NeMo's words of the probes that fp16 or int8 may change, else nothing is published, as 2% or 0.02.  "
    f"[default: {MAX_WORD_CHANGE['fp16']:.1%} for fp16, {MAX_WORD_CHANGE['int8']:.0%} for int8]",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Folder of recordings, or manifest, from which int8 learns the ranges of activations.  [default: the "
    "probes, on which the words are then counted as well]",
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
    queue_delay_us: int,
    encoders: int,
    encoder_threads: int,
    accelerator: Accelerator,
    decoder_device: Literal["cpu", "gpu"],
    lengths: Path | None,
    engine_cache: str,
    probes: Path | None,
    precision_name: PrecisionName,
    max_word_change: float | None,
    calibration: Path | None,
    name_suffix: str,
) -> None:
    if only_list:
        Console(width=LIST_WIDTH).print(catalogue_table())
        return
    if max_word_change is not None and precision_name == "fp32":
        raise click.UsageError("--max-word-change is for --precision fp16 and int8; in fp32 texts are NeMo's.")
    if target == "gpu" and precision_name == "int8":
        raise click.UsageError("--precision int8 is for CPUs; leave out --target gpu.")
    if calibration is not None and precision_name != "int8":
        raise click.UsageError("--calibration is for --precision int8.")
    if repository is None:
        raise click.UsageError("Missing option '--repository'.")
    sources, unfitting = select(checkpoints, families, everything)
    for pattern in unfitting:
        click.echo(f"error: {pattern}: fits none of the models in the catalogue, see --list", err=True)
    if not sources and not unfitting:
        raise click.UsageError("Name a CHECKPOINT, a --family or --all.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    try:
        check_suffix(name_suffix)
        # A share of words is told from many of them.
        recordings = read_probes(probes) if precision_name == "fp32" else read_probes(probes, most=None)
        bound = MAX_WORD_CHANGE[precision_name] if max_word_change is None else max_word_change
        learnt = read_recordings(calibration) if calibration else recordings.recordings
        precision = Precision(precision_name, bound, learnt if precision_name == "int8" else NO_RECORDINGS)
        tensorrt = TensorRt(read_lengths(lengths) if lengths else Lengths(), engine_cache)
        with publishing(repository):
            pass  # A repository that can't be written is known before NeMo is loaded.
    except ExportError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    serving = Serving(
        max_batch_size=max_batch_size or MAX_BATCH_SIZES[target],
        queue_delay_us=queue_delay_us,
        encoders=encoders,
        encoder_threads=encoder_threads,
        accelerator=accelerator,
        tensorrt=tensorrt,
        decoder_device=decoder_device,
        target=target,
    )
    failures = export_each(list(sources), repository, serving, recordings, precision, name_suffix)
    if everything or families:
        missing = f"; missing: {', '.join(failures)}" if failures else ""
        click.echo(f"{len(sources) - len(failures)} of {len(sources)} models are in {repository}{missing}")
    bad_input = any(sources[source] and not isinstance(failure, ParityError) for source, failure in failures.items())
    sys.exit(2 if bad_input or unfitting else 1 if failures else 0)


def export_each(
    sources: Sequence[str],
    repository: Path,
    serving: Serving,
    probes: Probes,
    precision: Precision = FP32,
    suffix: str = "",
) -> dict[str, Exception]:
    """Export one after the other, each freed before the next is opened; returns what failed, and why."""
    console = Console(stderr=True)
    failures: dict[str, Exception] = {}
    for source in sources:
        try:
            with console.status(source) as status:

                def report(part: str, status: Status = status, source: str = source) -> None:
                    status.update(f"{source}: {part}")

                summary = export(source, repository, serving, probes, report, precision, suffix)
            click.echo(summary)
        except ExportError as error:
            click.echo(f"error: {error}", err=True)
            failures[source] = error
        except KeyboardInterrupt:
            click.echo(f"interrupted: {source} is in the repository as a whole or not at all", err=True)
            sys.exit(130)
        except Exception as error:
            # An unforeseen model must not cost the others their export.
            reason = (str(error).strip() or "no message").splitlines()[0]
            click.echo(f"error: {source}: {type(error).__name__}: {reason}", err=True)
            failures[source] = error
        gc.collect()
    return failures


def catalogue_table() -> Table:
    table = Table("name", "NeMo class", "front end", "parameters", "MB", "licence", "WER, NVIDIA's figures")
    for model in CATALOGUE:
        rates = " / ".join(f"{rate:g}" for rate in model.word_error_rates)
        table.add_row(
            model.name,
            NEMO_CLASSES[model.family],
            FRONT_ENDS[model.family],
            f"{model.parameters:.1f} M",
            f"{model.megabytes:.0f}",
            model.licence,
            f"{rates} % ({model.measured_on})",
        )
    return table


if __name__ == "__main__":
    main()
