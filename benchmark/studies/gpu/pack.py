"""Export checkpoints with seeded random weights into a repository of a few MB, for copying to another machine.

    python -m benchmark.studies.gpu.pack CHECKPOINT... --out FOLDER [--precision fp32 --precision fp16]

Make CHECKPOINTs with `python -m verification.full_size.make_checkpoint --seeded`. Their large weights are left out;
benchmark.studies.gpu.unpack generates them again. Unlike export.py, this does not compare texts with NeMo's. Needs
NeMo.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import onnx

from benchmark.studies.exports import precision_suffix
from benchmark.studies.gpu import bare_cli
from benchmark.studies.gpu.stand_ins import STAND_INS, StandIn, entries_of, strip
from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.errors import ExportError
from export_scripts.operators.tuning import Target
from export_scripts.precision.choice import Precision, PrecisionName
from export_scripts.repository.config import Serving
from nemo_triton.contract import Part
from nemo_triton.terminal import exit_codes
from verification.full_size.seeded import is_drawn

PACKED: tuple[PrecisionName, ...] = ("fp32", "fp16")
SUFFIXES = {precision: precision_suffix(precision) for precision in PACKED}


@click.command(help=__doc__)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(list(SUFFIXES)),
    default=tuple(SUFFIXES),
    show_default=True,
    help="Precision of the encoder; repeat for more.",
)
@click.option(
    "--target",
    type=click.Choice(["cpu", "gpu"]),
    default="gpu",
    show_default=True,
    help="Hardware that the graphs are tuned for; they run on CPUs and GPUs.",
)
@click.option(
    "--frames-per-step",
    "frames_per_step",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    help="Also write RNNT decoders with N frames per step, as NAME_decoder.N; repeat for more.",
)
def main(
    *,
    checkpoints: tuple[Path, ...],
    out: Path,
    precisions: tuple[PrecisionName, ...],
    target: Target,
    frames_per_step: tuple[int, ...],
) -> int:
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    code = exit_codes.EXIT_OK
    for file in checkpoints:
        for precision in precisions:
            try:
                pack(file, out, precision=precision, target=target, frames_per_step=frames_per_step)
            except (ExportError, ValueError, OSError) as error:
                exit_codes.print_error(error)
                code = exit_codes.EXIT_PROBLEM
    return code


def pack(
    file: Path, out: Path, *, precision: PrecisionName, target: Target, frames_per_step: Sequence[int] = ()
) -> None:
    """Export one checkpoint in one precision, replacing models of the same name.

    Args:
        file: The checkpoint.
        out: Folder to write.
        precision: Precision of the encoder.
        target: Hardware that the graphs are tuned for.
        frames_per_step: Frames per step of additional RNNT decoders.
    """
    # These import NeMo and PyTorch.
    from export_scripts.chain import write_recognizer
    from export_scripts.checkpoints.families import RnntDecoder
    from export_scripts.stages.rnnt_decoder import rnnt_decoder_graph

    checkpoint = open_checkpoint(str(file), SUFFIXES[precision])
    encoder = checkpoint.model.encoder
    shapes = {name: tuple(weight.shape) for name, weight in encoder.named_parameters() if is_drawn(weight.shape)}
    stand_ins: list[StandIn] = []
    work = out / f".{checkpoint.name}"
    shutil.rmtree(work, ignore_errors=True)
    prepare = partial(strip, shapes=shapes, stand_ins=stand_ins)
    write_recognizer(work, checkpoint, Serving.of(target), Precision(precision, 0.0), prepare=prepare)
    stage = work / Part.ENCODER.of(checkpoint.name)
    (stage / "1" / STAND_INS).write_text(json.dumps(entries_of(stand_ins)))
    encoder_bytes = sum(file.stat().st_size for file in (stage / "1").glob("model.onnx*"))
    if isinstance(checkpoint.decoder, RnntDecoder):
        for frames in frames_per_step:
            graph = rnnt_decoder_graph(checkpoint.decoder.weights, checkpoint.pieces, frames)
            folder = work / f"{Part.DECODER.of(checkpoint.name)}.{frames}" / "1"
            folder.mkdir(parents=True)
            onnx.save(graph, folder / "model.onnx")
    for model in sorted(work.iterdir()):
        shutil.rmtree(out / model.name, ignore_errors=True)
        model.rename(out / model.name)
    work.rmdir()
    megabytes = encoder_bytes / 1e6
    click.echo(f"{checkpoint.name}: {len(stand_ins)} of {len(shapes)} weights left out, encoder {megabytes:.1f} MB")


if __name__ == "__main__":
    bare_cli.run(main)
