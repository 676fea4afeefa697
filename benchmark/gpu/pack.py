"""Export checkpoints of seeded random weights into a repository of a few MB, for a machine that is far away.

    python -m benchmark.gpu.pack CHECKPOINT... --out FOLDER [--precision fp32 --precision fp16]
    python -m benchmark.gpu.unpack FOLDER --out model_repository

Runs where NeMo is. Checkpoints are those of `tests/full_size/make_checkpoint.py --seeded`; their large weights are left
out and drawn again where the repository is unpacked, see stand_ins. Nothing is compared with NeMo here: export does that.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import onnx

from benchmark.gpu.seeded import is_drawn
from benchmark.gpu.stand_ins import STAND_INS, StandIn, strip, written
from export_scripts.checkpoint import open_checkpoint
from export_scripts.errors import ExportError
from export_scripts.graphs.tuning import Target
from export_scripts.names import Part
from export_scripts.precision import Precision, PrecisionName
from export_scripts.triton_config import Serving

SUFFIXES: dict[PrecisionName, str] = {"fp32": "", "fp16": "_fp16"}


@click.command(help=__doc__)
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--precision", "precisions", multiple=True, type=click.Choice(list(SUFFIXES)), default=tuple(SUFFIXES))
@click.option("--target", type=click.Choice(["cpu", "gpu"]), default="gpu", show_default=True)
@click.option(
    "--frames-per-step",
    "sizes",
    multiple=True,
    type=click.IntRange(1),
    help="Also write RNNT decoders that look at so many frames per step, as NAME_decoder.<number>.",
)
def main(
    checkpoints: tuple[Path, ...],
    out: Path,
    precisions: tuple[PrecisionName, ...],
    target: Target,
    sizes: tuple[int, ...],
) -> None:
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    failed = False
    for file in checkpoints:
        for precision in precisions:
            try:
                pack(file, out, precision, target, sizes)
            except (ExportError, OSError) as error:
                click.echo(f"error: {error}", err=True)
                failed = True
    sys.exit(2 if failed else 0)


def pack(file: Path, out: Path, precision: PrecisionName, target: Target, sizes: Sequence[int] = ()) -> None:
    """Write the stages and ensembles of one checkpoint in one precision into `out`, replacing those of its name."""
    # These import NeMo and PyTorch.
    from export_scripts.decoders import RnntDecoder
    from export_scripts.graphs.rnnt import rnnt_decoder_graph
    from export_scripts.stages import write_recognizer

    checkpoint = open_checkpoint(str(file), SUFFIXES[precision])
    encoder = checkpoint.model.encoder
    drawn = {name: tuple(weight.shape) for name, weight in encoder.named_parameters() if is_drawn(weight.shape)}
    made: list[StandIn] = []
    prepare = partial(strip, drawn=drawn, made=made)
    work = out / f".{checkpoint.name}"
    shutil.rmtree(work, ignore_errors=True)
    write_recognizer(work, checkpoint, Serving.of(target), Precision(precision, 0.0), prepare)
    stage = work / Part.ENCODER.of(checkpoint.name)
    (stage / "1" / STAND_INS).write_text(json.dumps(written(made)))
    size = (stage / "1" / "model.onnx").stat().st_size
    if isinstance(checkpoint.decoder, RnntDecoder):
        for frames in sizes:
            graph = rnnt_decoder_graph(checkpoint.decoder.transducer, checkpoint.pieces, frames)
            folder = work / f"{Part.DECODER.of(checkpoint.name)}.{frames}" / "1"
            folder.mkdir(parents=True)
            onnx.save(graph, folder / "model.onnx")
    for model in sorted(work.iterdir()):
        shutil.rmtree(out / model.name, ignore_errors=True)
        model.rename(out / model.name)
    work.rmdir()
    click.echo(f"{checkpoint.name}: {len(made)} of {len(drawn)} weights left out, encoder {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
