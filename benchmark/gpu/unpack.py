"""Draw the weights that benchmark.gpu.pack left out: `python -m benchmark.gpu.unpack PACKED --out model_repository`.

Needs numpy, onnx and click only. Models that are there already are left as they are.
"""

from __future__ import annotations

import json
import shutil
import time
from fnmatch import fnmatchcase
from pathlib import Path

import click
import onnx

from benchmark.gpu.stand_ins import STAND_INS, fill

LARGEST_FILE = 1_900_000_000
"""Bytes of weights in one ONNX file; protobuf reads 2 GiB at most, so more go beside it."""


@click.command(help=__doc__)
@click.argument("packed", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--model", "patterns", multiple=True, metavar="NAME", default=("*",), help="Folders, by pattern.")
def main(packed: Path, out: Path, patterns: tuple[str, ...]) -> None:
    for folder in sorted(packed.iterdir()):
        if any(fnmatchcase(folder.name, pattern) for pattern in patterns):
            started = time.perf_counter()
            if unpack(folder, out / folder.name):
                click.echo(f"{folder.name}: {time.perf_counter() - started:.1f} s")


def unpack(packed: Path, target: Path) -> bool:
    """Write one model with all of its weights; whether it was not there yet."""
    if target.exists():
        return False
    partial = target.with_name(f".{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(packed, partial, ignore=shutil.ignore_patterns(STAND_INS))
    entries = packed / "1" / STAND_INS
    if entries.exists():
        model = fill(onnx.load(packed / "1" / "model.onnx"), json.loads(entries.read_text()))
        write(model, partial / "1" / "model.onnx")
    partial.rename(target)
    return True


def write(model: onnx.ModelProto, file: Path) -> None:
    """Write a graph, with its weights beside it where they are too many for one file."""
    large = sum(len(tensor.raw_data) for tensor in onnx.external_data_helper._get_all_tensors(model)) > LARGEST_FILE
    onnx.save(model, file, save_as_external_data=large, location=f"{file.name}.data", size_threshold=1 << 16)


if __name__ == "__main__":
    main()
