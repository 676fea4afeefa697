"""Compare client/bench.py with Triton's perf_analyzer: `python -m benchmark.studies.perf_analyzer MODEL`."""

from __future__ import annotations

import base64
import json
import re
import shlex
import statistics
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.baselines.recordings import shuffled_recordings
from benchmark.core.model_control import only
from benchmark.core.results_folder import ResultsError
from benchmark.core.run_bench import Bench, run_bench
from benchmark.core.serving import serving
from benchmark.core.tables import spread
from nemo_triton.addresses import DEFAULT_URL
from nemo_triton.contract import AUDIO
from nemo_triton.errors import AudioError, ClientError
from nemo_triton.loadtest.recording import Recording
from nemo_triton.loadtest.schedule import ClosedLoop, Load, OpenLoop, Plan
from nemo_triton.manifest import Utterance
from nemo_triton.terminal import exit_codes, options

INPUT, INTERVALS, PROFILE = "perf_analyzer_input.json", "perf_analyzer_intervals.txt", "perf_analyzer_profile.json"
MANIFEST = "manifest.jsonl"
"""Manifest for bench.py: the recordings in the order of perf_analyzer's input."""
_FIGURES = {
    "mean_ms": re.compile(r"Avg latency: (\d+) usec"),
    "p50_ms": re.compile(r"p50 latency: (\d+) usec"),
    "p95_ms": re.compile(r"p95 latency: (\d+) usec"),
    "server_mean_ms": re.compile(r"Avg request latency: (\d+) usec"),
}
_ROWS = {
    "requests_per_second": "requests per second",
    "mean_ms": "latency mean, ms",
    "p50_ms": "latency p50, ms",
    "p95_ms": "latency p95, ms",
    "server_mean_ms": "server latency mean, ms",
    "client_over_server": "client mean / server mean",
}


class PerfAnalyzerError(ClientError):
    """A tool reported no results."""


@click.command()
@click.argument("model")
@click.option(
    "--manifest",
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Recordings to send.",
)
@click.option("--url", default=DEFAULT_URL, show_default=True, metavar="HOST:PORT", help="A running server.")
@click.option(
    "--repository",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Start a server of this model repository, in place of --url.",
)
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for perf_analyzer's input files.",
)
@click.option("--concurrency", type=click.IntRange(1), help="Run a closed loop with this many concurrent requests.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Run an open loop with this many requests per second."
)
@click.option(
    "--passes", type=click.IntRange(1), default=5, show_default=True, help="Times that each recording is sent per run."
)
@click.option(
    "--perf-analyzer",
    "program",
    metavar="PATH",
    help="Path of perf_analyzer. It runs in turn with bench.py, and both results are printed. Linux only.",
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Runs of each tool per load.")
def run(
    model: str,
    manifest: Path,
    url: str,
    repository: Path | None,
    out: Path,
    concurrency: int | None,
    rate: float | None,
    passes: int,
    program: str | None,
    rounds: int,
) -> int:
    """Compare bench.py with perf_analyzer under the same load.

    Writes perf_analyzer's input files and prints its command line for each load. With --perf-analyzer, both tools run
    in turn, with the same recordings in the same order. In an open loop both send at the same times.
    """
    if concurrency is None and rate is None:
        raise click.UsageError("give --concurrency, --rate or both")
    recordings = shuffled_recordings(manifest)
    requests = passes * len(recordings)
    loads: list[Load] = [ClosedLoop(concurrency)] if concurrency else []
    loads += [OpenLoop(rate)] if rate else []
    out.mkdir(parents=True, exist_ok=True)
    write_input(recordings, out / INPUT)
    write_manifest(recordings, out / MANIFEST)
    with ExitStack() as stack:
        if repository:
            url = stack.enter_context(serving(repository, only(repository, model))).grpc
        for load in loads:
            if isinstance(load, OpenLoop):
                write_intervals(load.rate, requests, out / INTERVALS)
            command = [program or "perf_analyzer", *arguments(model, url, load, requests, out)]
            click.echo(shlex.join(command))
            if program:
                pairs = [
                    (
                        measure_by_perf_analyzer(command, out / PROFILE),
                        measure_by_bench(model, url, load, requests, out / MANIFEST),
                    )
                    for _ in range(rounds)
                ]
                Console(width=100).print(_table(f"{load.name}, {requests} requests", pairs))
    return exit_codes.EXIT_OK


def write_input(recordings: Sequence[Recording], file: Path) -> None:
    """Write perf_analyzer's input: int16 recordings at their full length, which it sends in turn.

    Raises:
        AudioError: A recording is not int16.
    """
    for recording in recordings:
        if recording.samples.dtype != np.int16:
            raise AudioError(
                f"{recording.utterance.name}: is not 16-bit mono at 16 kHz, and perf_analyzer sends one type of "
                "samples; convert it"
            )
    entries = [
        {
            AUDIO.name: {
                "content": {"b64": base64.b64encode(recording.samples.astype("<i2").tobytes()).decode()},
                "shape": [len(recording.samples)],
            }
        }
        for recording in recordings
    ]
    file.write_text(json.dumps({"data": entries}) + "\n")


def write_intervals(rate: float, requests: int, file: Path) -> None:
    """Write the intervals between bench.py's requests with its default seed, in microseconds."""
    plan = Plan(OpenLoop(rate), (0,), shuffled=False, seed=0, requests=requests)
    due = [0.0, *(request.due for request in plan.part())]
    intervals = [later - earlier for earlier, later in pairwise(due)]
    file.write_text("".join(f"{max(round(interval * 1e6), 1)}\n" for interval in intervals))


def write_manifest(recordings: Sequence[Recording], file: Path) -> None:
    """Write a manifest in the order of perf_analyzer's input."""
    lines = [
        json.dumps({key: value for key, value in _entry(recording.utterance).items() if value is not None})
        for recording in recordings
    ]
    file.write_text("\n".join(lines) + "\n")


def _entry(utterance: Utterance) -> dict[str, Any]:
    return {
        "audio_filepath": str(utterance.audio.resolve()),
        "text": utterance.text or "",
        "offset": utterance.offset,
        "duration": utterance.segment_seconds,
        "channel": utterance.channel,
    }


def arguments(model: str, url: str, load: Load, requests: int, folder: Path) -> list[str]:
    """Arguments of perf_analyzer's command line."""
    shared = ["-m", model, "-i", "grpc", "-u", url, "--async", "--input-data", str(folder / INPUT)]
    shared += ["--request-count", str(requests)]
    if isinstance(load, ClosedLoop):
        return [*shared, "--concurrency-range", str(load.concurrency)]
    return [*shared, "--request-intervals", str(folder / INTERVALS)]


def measure_by_perf_analyzer(command: Sequence[str], profile: Path) -> dict[str, float]:
    """Run perf_analyzer once.

    Args:
        command: Program and its arguments.
        profile: File that perf_analyzer writes its requests to.

    Returns:
        Throughput and latencies, by the keys of _ROWS.

    Raises:
        PerfAnalyzerError: perf_analyzer reported no results.
    """
    # perf_analyzer fails if the file exists.
    profile.unlink(missing_ok=True)
    ended = subprocess.run([*command, "--profile-export-file", str(profile)], capture_output=True, text=True)
    matches = {name: pattern.search(ended.stdout) for name, pattern in _FIGURES.items()}
    if not all(matches.values()):
        # The first line is the error; a list of options follows.
        first = (ended.stderr.strip() or ended.stdout.strip() or "no output").splitlines()[0]
        raise PerfAnalyzerError(f"{command[0]} ended with code {ended.returncode} and no results: {first}")
    milliseconds = {name: float(match[1]) / 1000 for name, match in matches.items() if match}
    return {"requests_per_second": requests_per_second(profile), **milliseconds}


def requests_per_second(profile: Path) -> float:
    """Throughput from the first request sent to the last response, in requests per second.

    perf_analyzer prints a lower throughput: it checks only every half second or so whether the run is over, and counts
    that time too.
    """
    requests = json.loads(profile.read_text())["experiments"][0]["requests"]
    first: int = min(request["timestamp"] for request in requests)
    last: int = max(answered for request in requests for answered in request["response_timestamps"])
    return len(requests) / (last - first) * 1e9


def measure_by_bench(model: str, url: str, load: Load, requests: int, manifest: Path) -> dict[str, float]:
    """Run client/bench.py once, and return the same values as measure_by_perf_analyzer.

    Raises:
        PerfAnalyzerError: bench.py reported no results.
    """
    flags = ["--concurrency", str(load.concurrency)] if isinstance(load, ClosedLoop) else ["--rate", str(load.rate)]
    flags += ["--requests", str(requests), "--order", "given"]
    with TemporaryDirectory() as folder:
        try:
            figures, code = run_bench(
                Bench(model=model, url=url, manifest=manifest), flags, Path(folder) / "bench.json"
            )
        except ResultsError as error:
            raise PerfAnalyzerError(f"{error}; see its error above") from error
    if code:
        raise PerfAnalyzerError(f"bench.py ended with code {code}; see its error above")
    (measured,) = figures["loads"]
    latencies = measured["latency_ms"]
    return {
        "requests_per_second": measured["requests_per_second"],
        "mean_ms": latencies["mean"],
        "p50_ms": latencies["p50"],
        "p95_ms": latencies["p95"],
        "server_mean_ms": measured["recognizer"]["request_ms"],
    }


def _table(load: str, rounds: Sequence[tuple[dict[str, float], dict[str, float]]]) -> Table:
    for pair in rounds:
        for figures in pair:
            figures["client_over_server"] = figures["mean_ms"] / figures["server_mean_ms"]
    table = Table(
        "measure",
        "perf_analyzer",
        "bench.py",
        "bench.py / perf_analyzer",
        title=f"{load}: medians of {len(rounds)} rounds",
        title_justify="left",
    )
    for name, heading in _ROWS.items():
        analyzer, bench = ([figures[name] for figures in side] for side in zip(*rounds, strict=True))
        ratios = [numerator / denominator for numerator, denominator in zip(bench, analyzer, strict=True)]
        medians = (f"{statistics.median(values):.3f}" for values in (analyzer, bench))
        table.add_row(heading, *medians, spread(ratios, 3))
    return table


if __name__ == "__main__":
    options.run(run)
