"""Checkpoints in each precision: sizes, speeds and words, side by side in one run.

    python -m benchmark.studies.precision.run demo/coffee_ctc.nemo=orders.jsonl --repository R --out docs/precision.md

Exports each CHECKPOINT into R in fp32, fp16 and int8, those that are not there yet, serves all of one checkpoint by
one server and asks them in turn for the recordings of its MANIFEST: once one at a time, for the texts, then many at
once in so many rounds. Beside them, as no export makes it: int8 with dynamic scales. Runs where tritonserver is;
exports run by --export-python.
"""

from __future__ import annotations

import logging
from pathlib import Path

import click

from benchmark.baselines.recordings import shuffled_recordings
from benchmark.core.constants import EXPORT_PYTHON
from benchmark.studies.exports import export_all
from benchmark.studies.precision.measure import measure
from benchmark.studies.precision.report import page
from nemo_triton.loadtest.provenance import machine
from nemo_triton.terminal import exit_codes, options


@click.command(help=__doc__)
@click.argument("pairs", nargs=-1, required=True, metavar="CHECKPOINT=MANIFEST...")
@click.option("--repository", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--export-python", type=click.Path(path_type=Path), default=EXPORT_PYTHON)
@click.option("--at-once", type=click.IntRange(2), default=16, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The Markdown file to write.")
def precision(
    pairs: tuple[str, ...], repository: Path, export_python: Path, at_once: int, rounds: int, out: Path
) -> int:
    logging.disable(logging.WARNING)  # onnxruntime's advice on how to quantize.
    out.parent.mkdir(parents=True, exist_ok=True)
    measurements = []
    for pair in pairs:
        checkpoint, separator, manifest = pair.partition("=")
        if not separator:
            raise click.UsageError(f"{pair}: give CHECKPOINT=MANIFEST.")
        recordings = shuffled_recordings(Path(manifest))
        models, refused = export_all(Path(checkpoint), repository, export_python)
        speech = Path(manifest).parent.name
        measurements.append(
            measure(models, repository, recordings, speech=speech, at_once=at_once, rounds=rounds, refused=refused)
        )
    out.write_text(page(measurements, str(machine()["processor"])), encoding="utf-8")
    click.echo(out.read_text(encoding="utf-8"))
    return exit_codes.EXIT_OK


if __name__ == "__main__":
    options.run(precision)
