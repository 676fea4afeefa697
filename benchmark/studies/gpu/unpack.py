"""Generate the weights that benchmark.studies.gpu.pack left out.

    python -m benchmark.studies.gpu.unpack PACKED --out model_repository

Models that exist in the repository are not changed. Needs numpy, onnx and click.
"""

from __future__ import annotations

import json
import shutil
import time
from fnmatch import fnmatchcase
from pathlib import Path

import click
import onnx
from google.protobuf.message import DecodeError

from benchmark.studies.gpu import bare_cli
from benchmark.studies.gpu.stand_ins import STAND_INS, fill
from export_scripts.operators.weights import LARGEST_GRAPH, SUFFIX, write_graph
from nemo_triton.terminal import exit_codes


@click.command(help=__doc__)
@click.argument("packed", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Repository to write to.")
@click.option(
    "--model",
    "patterns",
    multiple=True,
    metavar="NAME",
    default=("*",),
    help="Model to unpack, or a pattern; repeat for more.  [default: all]",
)
def main(*, packed: Path, out: Path, patterns: tuple[str, ...]) -> int:
    folders = [folder for folder in sorted(packed.iterdir()) if (folder / "config.pbtxt").exists() or _is_stage(folder)]
    code = exit_codes.EXIT_OK
    for pattern in patterns:
        if not any(fnmatchcase(folder.name, pattern) for folder in folders):
            exit_codes.print_error(f"{packed}: no model {pattern}; use a folder that benchmark.studies.gpu.pack wrote")
            code = exit_codes.EXIT_PROBLEM
    for folder in folders:
        if not any(fnmatchcase(folder.name, pattern) for pattern in patterns):
            continue
        started = time.perf_counter()
        try:
            written = unpack(folder, out / folder.name)
        except (OSError, ValueError, KeyError, IndexError, DecodeError) as error:
            exit_codes.print_error(f"{folder}: not readable ({bare_cli.describe(error)}); pack it again")
            code = exit_codes.EXIT_PROBLEM
            continue
        click.echo(f"{folder.name}: {time.perf_counter() - started:.1f} s" if written else f"{folder.name}: exists")
    return code


def unpack(packed: Path, target: Path, largest_graph: int = LARGEST_GRAPH) -> bool:
    """Write one model with all of its weights, see `write_graph`.

    Returns:
        False, and nothing is changed, if `target` exists.
    """
    if target.exists():
        return False
    partial = target.with_name(f".{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(packed, partial, ignore=shutil.ignore_patterns(STAND_INS))
    entries = packed / "1" / STAND_INS
    if entries.exists():
        model = fill(onnx.load(packed / "1" / "model.onnx"), json.loads(entries.read_text()))
        # The packed model's file of weights; the whole model may need none, as in float16.
        (partial / "1" / f"model.onnx{SUFFIX}").unlink(missing_ok=True)
        write_graph(model, partial / "1" / "model.onnx", largest_graph)
    partial.rename(target)
    return True


def _is_stage(folder: Path) -> bool:
    """Whether the folder has a graph but perhaps no configuration, such as a decoder with other frames per step."""
    return (folder / "1" / "model.onnx").exists()


if __name__ == "__main__":
    bare_cli.run(main)
