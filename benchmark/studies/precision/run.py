"""Compare fp32, fp16 and int8: size, speed and changed words.

    python -m benchmark.studies.precision.run demo/coffee_ctc.nemo=orders.jsonl --repository R --out docs/precision.md

Exports each CHECKPOINT into R in fp32, fp16 and int8, unless R has it already. One server serves all precisions of a
checkpoint. Each transcribes the recordings of MANIFEST in turn: once with single requests, for the transcripts, then in
rounds with concurrent requests, for the speed. int8 with dynamic scales is measured too, although export.py does not
write it. Needs tritonserver (.venv/serve); exports run with --export-python.
"""

from __future__ import annotations

import logging
from pathlib import Path

import click

from benchmark.baselines.recordings import shuffled_recordings
from benchmark.core.constants import EXPORT_PYTHON
from benchmark.core.options import concurrency_option
from benchmark.studies.exports import export_all
from benchmark.studies.precision.measure import measure
from benchmark.studies.precision.report import page
from nemo_triton.loadtest.provenance import machine
from nemo_triton.terminal import exit_codes, options


@click.command(help=__doc__)
@click.argument("pairs", nargs=-1, required=True, metavar="CHECKPOINT=MANIFEST...")
@click.option(
    "--repository",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Model repository to export to. Existing models are not exported again.",
)
@click.option(
    "--export-python",
    metavar="PYTHON",
    type=click.Path(path_type=Path),
    default=EXPORT_PYTHON,
    show_default=True,
    help="Python with NeMo.",
)
@concurrency_option(16, "Concurrent requests in the rounds.", minimum=2)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Passes of each precision. More rounds show the spread better.",
)
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
def precision(
    pairs: tuple[str, ...], repository: Path, export_python: Path, concurrency: int, rounds: int, out: Path
) -> int:
    logging.disable(logging.WARNING)  # Hides onnxruntime's advice on how to quantize.
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
            measure(
                models, repository, recordings, speech=speech, concurrency=concurrency, rounds=rounds, refused=refused
            )
        )
    out.write_text(page(measurements, str(machine()["processor"])), encoding="utf-8")
    click.echo(out.read_text(encoding="utf-8"))
    return exit_codes.EXIT_OK


if __name__ == "__main__":
    options.run(precision)
