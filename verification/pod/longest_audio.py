"""Show that a server with a pod's memory survives its longest audio, many requests concurrently.

    python -m verification.pod.longest_audio NAME --repository R

The server runs in a control group with the memory and the /dev/shm of a pod (docker/chart/values.yaml), and serves one
model. Its log stays outside. Prints one line of JSON. Exit code 1 if a request failed or a process of the server was
killed; 2 if this user can't make a control group, which needs root on Linux.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmark.core.model_control import only
from benchmark.core.models import choose, read_models
from benchmark.core.serving import serving
from nemo_triton.audio import Samples, as_float
from nemo_triton.contract import MAX_AUDIO_SECONDS, SAMPLE_RATE
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.loadtest.recording import read_recordings
from nemo_triton.terminal import exit_codes, options
from verification.concurrent_requests import send_concurrently
from verification.pod.control_group import control_group
from verification.pod.shared_memory import PeakSharedMemory, limit_shared_memory

FAILED = 1
"""Exit code if the server did not survive."""
GIBIBYTE = 2**30
LOAD_SECONDS = 600.0
REQUEST_SECONDS = 4 * 3600.0
"""Time that a request may take, in seconds: it may wait for all others on a slow machine."""


@click.command(help=__doc__)
@click.argument("model", metavar="NAME")
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option("--memory", type=click.FloatRange(0.1), default=8.0, show_default=True, help="Memory of the pod, in GiB.")
@click.option(
    "--shared-memory", type=click.FloatRange(0.01), default=2.0, show_default=True, help="Size of /dev/shm, in GiB."
)
@click.option("--requests", type=click.IntRange(1), default=16, show_default=True, help="Concurrent requests.")
@click.option("--seconds", type=click.IntRange(1), help="Length of each, in seconds.  [default: the model's longest]")
@click.option("--float", "as_floats", is_flag=True, help="Send float samples, which have twice the size.")
@click.option("--out", type=click.Path(path_type=Path), help="File that gets the JSON too.")
def main(
    model: str,
    repository: Path,
    memory: float,
    shared_memory: float,
    requests: int,
    seconds: int | None,
    as_floats: bool,
    out: Path | None,
) -> int:
    (served,) = choose(read_models(repository), [model], repository)
    seconds = seconds or served.max_audio_seconds or MAX_AUDIO_SECONDS
    speech: Samples = np.concatenate([recording.samples for recording in read_recordings(DEMO_MANIFEST)])
    if as_floats:
        speech = as_float(speech)
    audio = [np.resize(np.roll(speech, -number * SAMPLE_RATE), seconds * SAMPLE_RATE) for number in range(requests)]
    limit_shared_memory(round(shared_memory * GIBIBYTE))
    result = {
        "model": model,
        "requests": requests,
        "seconds": seconds,
        "samples": str(speech.dtype),
        "memory_bytes": round(memory * GIBIBYTE),
        "shared_memory_bytes": round(shared_memory * GIBIBYTE),
        **run(repository, model, audio, round(memory * GIBIBYTE)),
    }
    line = json.dumps(result)
    click.echo(line)
    if out:
        out.write_text(line + "\n", encoding="utf-8")
    return FAILED if result["errors"] or result["killed"] else exit_codes.EXIT_OK


def run(repository: Path, model: str, audio: list[Samples], memory: int) -> dict[str, Any]:
    """Serve the model in a control group and send the requests.

    Raises:
        ControlGroupError: The control group can't be made.
    """
    with control_group(memory) as group, PeakSharedMemory() as shared:
        with ExitStack() as stack:
            with group.joined():
                server = stack.enter_context(serving(repository, only(repository, model), LOAD_SECONDS))
            started = time.monotonic()
            errors = send_concurrently(server.grpc, model, audio, REQUEST_SECONDS)
            seconds = time.monotonic() - started
        return {
            "answered": len(audio) - len(errors),
            "errors": sorted(set(errors)),
            "killed": group.killed,
            "peak_bytes": group.peak,
            "peak_shared_memory_bytes": shared.peak,
            "wall_seconds": round(seconds, 1),
        }


if __name__ == "__main__":
    options.run(main)
