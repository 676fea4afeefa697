"""Show that the memory of client/bench.py does not depend on the audio of its manifest.

    python -m verification.bench_memory NAME --repository R

Runs bench.py on manifests of more and more lines, which name few files often, and prints a line of JSON for each: the
memory of bench.py and its sending processes, while it reads the audio and while it sends requests. Exit code 1 if the
memory grows by more than ALLOWED_BYTES, and ALLOWED_BYTES_PER_LINE, from the shortest manifest to the longest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import soundfile

from benchmark.core.constants import ROOT
from benchmark.core.model_control import EXPLICIT
from benchmark.core.serving import serving
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError
from nemo_triton.loadtest.recording import read_recordings
from nemo_triton.terminal import exit_codes, options
from verification.sampling import Sampling

FAILED = 1
"""Exit code if memory grows with the manifest."""
ALLOWED_BYTES = 32 * 2**20
"""Two runs of the same manifest differ by less."""
ALLOWED_BYTES_PER_LINE = 4096
"""Enough for a line's path, text and place, but for only 0.13 s of its audio."""
INTERVAL_SECONDS = 0.05


class BenchMemoryError(ClientError):
    """bench.py failed."""


class PeakMemory(Sampling):
    """The highest memory of bench.py and its processes, before and after its first response.

    Memory that belongs to files, such as libraries and the page cache, is not counted: the system can drop it.

    Attributes:
        reading: Highest number of bytes before the first response.
        sending: Highest number of bytes after it.

    Args:
        process: Id of bench.py's process.
        rows: File of its responses.
    """

    def __init__(self, process: int, rows: Path) -> None:
        super().__init__(self._sample, INTERVAL_SECONDS)
        self.reading = self.sending = 0
        self._root = psutil.Process(process)
        self._rows = rows

    def _sample(self) -> None:
        size = sum(map(unshared_memory, self._family()))
        # The first row describes the run.
        if self._rows.exists() and self._rows.read_bytes().count(b"\n") > 1:
            self.sending = max(self.sending, size)
        else:
            self.reading = max(self.reading, size)

    def _family(self) -> list[int]:
        with suppress(psutil.NoSuchProcess):
            return [self._root.pid, *(child.pid for child in self._root.children(recursive=True))]
        return []


def unshared_memory(process: int) -> int:
    """Anonymous and shared memory of a process, in bytes; memory of several processes counts as its part of it."""
    names = ("Pss_Anon:", "Pss_Shmem:")
    with suppress(OSError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(names))
    return 0


@click.command(help=__doc__)
@click.argument("model", metavar="NAME")
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option(
    "--lines",
    callback=options.number_list(click.IntRange(min=1)),
    default="200,2000,20000",
    show_default=True,
    help="Lines of each manifest.",
)
@click.option("--seconds", type=click.FloatRange(0.1), default=35.0, show_default=True, help="Length of each line.")
@click.option("--files", type=click.IntRange(1), default=8, show_default=True, help="Files that the lines name.")
@click.option("--requests", type=click.IntRange(1), default=200, show_default=True, help="Requests of each run.")
@click.option("--bench", "flags", default="", help="Further flags of bench.py, e.g. --bench '--processes 2'.")
@click.option(
    "--checkout",
    type=click.Path(exists=True, path_type=Path),
    default=ROOT,
    show_default=True,
    help="Folder of the project whose bench.py runs, to measure another version.",
)
def main(
    model: str,
    repository: Path,
    lines: tuple[int, ...],
    seconds: float,
    files: int,
    requests: int,
    flags: str,
    checkout: Path,
) -> int:
    results = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(repository, [EXPLICIT, f"--load-model={model}"]) as server,
    ):
        audio = write_audio(Path(folder), files=files, seconds=seconds)
        arguments = ["--model", model, "--url", server.grpc, "--metrics-url", f"http://{server.metrics}/metrics"]
        for count in lines:
            manifest = write_manifest(Path(folder) / f"{count}.jsonl", audio, count, seconds)
            run = [*arguments, "--manifest", str(manifest), "--requests", str(requests), *flags.split()]
            results.append({"lines": count, "seconds": seconds, "files": files, **measure(checkout, run)})
            click.echo(json.dumps(results[-1]))
    return exit_codes.EXIT_OK if is_flat(results) else FAILED


def is_flat(results: Sequence[dict[str, Any]]) -> bool:
    """Whether memory does not grow with the audio of the manifests."""
    shortest, longest = (key(results, key=lambda result: result["lines"]) for key in (min, max))
    growth = max(longest[name] - shortest[name] for name in ("reading_bytes", "sending_bytes"))
    return bool(growth <= ALLOWED_BYTES + ALLOWED_BYTES_PER_LINE * (longest["lines"] - shortest["lines"]))


def write_audio(folder: Path, *, files: int, seconds: float) -> list[Path]:
    """Write recordings cut from the demo's, no two of them equal."""
    speech = np.concatenate([recording.samples for recording in read_recordings(DEMO_MANIFEST)])
    paths = [folder / f"{number}.wav" for number in range(files)]
    for number, path in enumerate(paths):
        piece = np.resize(np.roll(speech, -number * SAMPLE_RATE), round(seconds * SAMPLE_RATE))
        soundfile.write(path, piece, SAMPLE_RATE, subtype="PCM_16")
    return paths


def write_manifest(path: Path, audio: Sequence[Path], lines: int, seconds: float) -> Path:
    """Write a manifest that names the files in turn."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            entry = {"audio_filepath": str(audio[number % len(audio)]), "duration": seconds, "text": f"line {number}"}
            file.write(json.dumps(entry) + "\n")
    return path


def measure(checkout: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run bench.py once and watch its memory.

    Raises:
        BenchMemoryError: bench.py failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows, output = Path(folder) / "rows.jsonl", Path(folder) / "out.json"
        command = [sys.executable, str(checkout / "client" / "bench.py"), *arguments]
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, "--rows", str(rows), "--json", str(output)],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )
        try:
            with PeakMemory(process.pid, rows) as peak:
                code = process.wait()
        finally:
            process.kill()
        if code != exit_codes.EXIT_OK:
            raise BenchMemoryError(f"bench.py ended with code {code}; see its error above")
        (load,) = json.loads(output.read_text(encoding="utf-8"))["loads"]
        return {
            "answered": load["answered"],
            "reading_bytes": peak.reading,
            "sending_bytes": peak.sending,
            "p50_ms": round(load["latency_ms"]["p50"], 1),
            "wall_seconds": round(time.monotonic() - started, 1),
        }


if __name__ == "__main__":
    options.run(main)
