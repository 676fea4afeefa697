"""Measure recognizers for the table of models: speed compared with NeMo, latency, memory.

    python -m benchmark.studies.models_table.run stt_en_citrinet_256 --folder build/models_table

Without NAME, it measures all models that NVIDIA published, one per architecture. Missing checkpoints (full size, random
weights) and exports in fp32 and int8 are made first. A model that was measured under the same conditions is skipped. If
a model fails, one line says why and the others are still measured. Run it in the serving environment.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from benchmark.baselines.errors import NotRun
from benchmark.core.constants import EXPORT_PYTHON
from benchmark.core.results_folder import is_measured, write_json
from benchmark.studies.exports import FULL
from benchmark.studies.models_table.exports import Folder, make_exports, smallest_first
from benchmark.studies.models_table.measure import REQUESTS, SECONDS, conditions, measure_model
from benchmark.studies.models_table.speech import Speech, cut_recordings
from nemo_triton.demo_speech import MANIFEST
from nemo_triton.errors import ClientError, one_line
from nemo_triton.terminal import exit_codes, options


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for checkpoints, exports and results. Repeat the command with it to resume.",
)
@click.option(
    "--speech",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=MANIFEST,
    help="Manifest of speech that the recordings are cut from.  [default: the demo's speech]",
)
@click.option("--export-python", type=click.Path(path_type=Path), default=EXPORT_PYTHON, help="Python with NeMo.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Passes over the recordings.  [default: 5 for the server and NeMo, 3 for int8; fewer for slow models]",
)
@click.option("--export-only", is_flag=True, help="Make checkpoints and exports in fp32 now, measure later.")
def main(
    names: tuple[str, ...], folder: Path, speech: Path, export_python: Path, rounds: int | None, export_only: bool
) -> int:
    place = Folder(folder)
    cut = cut_recordings(speech, place.speech, count=REQUESTS, seconds=SECONDS)
    code = exit_codes.EXIT_OK
    for name in names or smallest_first():
        try:
            process(name, place, cut, export_python, rounds, export_only)
        except (ClientError, NotRun, OSError) as error:
            click.echo(f"error: {name}: {one_line(error)}", err=True)
            code = exit_codes.EXIT_PROBLEM
    return code


def process(
    name: str, folder: Folder, speech: Speech, export_python: Path, rounds: int | None, export_only: bool
) -> None:
    """Export one model and measure it, unless there is a complete result.

    Raises:
        ClientError: The model can't be exported or served.
        NotRun: A system fails.
    """

    def say(line: str) -> None:
        click.echo(f"{name}: {line}", err=True)

    if export_only:
        make_exports(name, folder, export_python, precisions=[FULL])
        say("exported")
        return
    exports = make_exports(name, folder, export_python)
    result = folder.result(name)
    if is_measured(result, conditions(exports, speech, rounds)):
        say("already measured")
    else:
        started = time.monotonic()
        checkpoint = folder.checkpoint(name)
        measured = measure_model(exports, folder.repository, checkpoint, speech, export_python, rounds=rounds, say=say)
        write_json(result, measured)
        say(f"measured in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    options.run(main)
