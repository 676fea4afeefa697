"""Measure the memory that long audio needs, for the table of models.

    python -m benchmark.studies.models_table.long_audio --folder build/models_table

Each model has a server of its own. Requests of 1, 5 and 20 minutes are sent one at a time, and 16 of one minute and of
the longest audio concurrently. The peak memory of the encoder and of the whole server is sampled. A length beyond a
model's limit is replaced by the limit. A length that was measured before is skipped: the command resumes after an
interruption.

If a server ends, that length is recorded as failed, and the next model is measured. Run it in the serving environment.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmark.core.model_control import only
from benchmark.core.models import Model, choose, read_models
from benchmark.core.results_folder import read_json, write_json
from benchmark.core.serving import serving
from benchmark.studies.models_table.exports import Folder, smallest_first
from benchmark.studies.models_table.measure import LOAD_SECONDS
from benchmark.studies.models_table.memory import MEASURE, PeakMemory
from benchmark.studies.models_table.speech import cut
from nemo_triton.audio import Samples, join
from nemo_triton.contract import MAX_AUDIO_SECONDS, SAMPLE_RATE
from nemo_triton.demo_speech import MANIFEST
from nemo_triton.errors import ClientError, one_line
from nemo_triton.loadtest.provenance import machine, versions
from nemo_triton.loadtest.recording import read_recordings
from nemo_triton.terminal import exit_codes, options
from verification.attack.footprint import footprint
from verification.concurrent_requests import send_concurrently

CONCURRENT = 16
REQUEST_SECONDS = 7200.0
"""Time that a request may take, in seconds."""

Json = dict[str, Any]


@dataclass(frozen=True, order=True)
class Case:
    """Concurrent requests of one length.

    Attributes:
        requests: Number of requests.
        seconds: Length of each, in seconds.
    """

    requests: int
    seconds: int

    @property
    def key(self) -> str:
        return f"{self.requests} x {self.seconds} s"


CASES = (Case(1, 60), Case(1, 300), Case(CONCURRENT, 60), Case(1, 1200))
"""Measured for each model, besides 16 requests of the longest audio that it takes."""


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder with the exports."
)
@click.option(
    "--speech",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=MANIFEST,
    help="Manifest of speech that the requests are cut from.  [default: the demo's speech]",
)
@click.option("--at-limit/--not-at-limit", default=True, help="Whether to send 16 requests of the longest audio.")
@click.option("--limits-only", is_flag=True, help="Record longest audio and computed memory, measure nothing.")
def main(names: tuple[str, ...], folder: Path, speech: Path, at_limit: bool, limits_only: bool) -> int:
    place = Folder(folder)
    samples = join(recording.samples for recording in read_recordings(speech))
    exported = {model.name: model for model in read_models(place.repository)}
    chosen = names or [name for name in smallest_first() if name in exported]
    choose(list(exported.values()), chosen, place.repository)
    code = exit_codes.EXIT_OK
    for name in chosen:
        try:
            process(exported[name], place, samples, at_limit=at_limit, limits_only=limits_only)
        except (ClientError, OSError) as error:
            click.echo(f"error: {name}: {one_line(error)}", err=True)
            code = exit_codes.EXIT_PROBLEM
    return code


def process(model: Model, folder: Folder, speech: Samples, *, at_limit: bool, limits_only: bool = False) -> None:
    """Measure the lengths of one model that have no result yet, each as soon as it is measured.

    Raises:
        ClientError: The server doesn't start, or a request fails.
    """
    file = folder.long_audio(model.name)
    result = read_json(file) if file.exists() else {}
    limit = model.max_audio_seconds or MAX_AUDIO_SECONDS
    conditions = {"version": 1, "parity_id": model.parity_id, "max_audio_seconds": limit}
    if result.get("conditions") != conditions:
        result = {"conditions": conditions, "name": model.name, "cases": {}}
    result["computed_bytes"] = model.memory_bytes
    write_json(file, result)
    if limits_only:
        return
    cases = [Case(case.requests, min(case.seconds, limit)) for case in CASES]
    cases += [Case(CONCURRENT, limit)] if at_limit else []
    missing = [case for case in dict.fromkeys(cases) if case.key not in result["cases"]]
    if not missing:
        click.echo(f"{model.name}: already measured", err=True)
        return
    with serving(folder.repository, only(folder.repository, model.name), LOAD_SECONDS) as server:
        for case in missing:
            started = time.monotonic()
            pieces = cut(speech, case.requests, case.seconds * SAMPLE_RATE)
            with PeakMemory(server.process.pid, model.encoder) as memory:
                errors = send_concurrently(server.grpc, model.name, pieces, REQUEST_SECONDS)
            error = errors[0] if errors else None
            result["cases"][case.key] = {
                "requests": case.requests,
                "seconds": case.seconds,
                "loaded_bytes": memory.first,
                "peak_bytes": memory.peak,
                "encoder_peak_bytes": memory.model_peak,
                "after_bytes": footprint(server.process.pid).memory,
                "wall_seconds": time.monotonic() - started,
                "error": error,
            }
            result |= {"measure": MEASURE, "machine": machine(), "versions": versions()}
            write_json(file, result)
            click.echo(
                f"{model.name}: {case.key}: peak {memory.peak / 1e9:.2f} GB, encoder {memory.model_peak / 1e9:.2f} GB"
                + (f", failed: {error}" if error else ""),
                err=True,
            )
            if server.process.poll() is not None:
                return


if __name__ == "__main__":
    options.run(main)
