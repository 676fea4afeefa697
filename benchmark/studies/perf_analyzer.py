"""Triton's perf_analyzer beside client/bench.py: `python -m benchmark.studies.perf_analyzer MODEL`."""

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

import click
from rich.console import Console
from rich.table import Table

from benchmark.baselines.recordings import shuffled_recordings
from benchmark.core.model_control import EXPLICIT
from benchmark.core.results_folder import ResultsError
from benchmark.core.run_bench import Bench, run_bench
from benchmark.core.serving import serving
from benchmark.core.tables import spread
from nemo_triton.addresses import DEFAULT_URL
from nemo_triton.contract import AUDIO
from nemo_triton.errors import ClientError
from nemo_triton.loadtest.recording import Recording
from nemo_triton.loadtest.schedule import ClosedLoop, Load, OpenLoop, Plan
from nemo_triton.terminal import exit_codes, options

INPUT, INTERVALS, PROFILE = "perf_analyzer_input.json", "perf_analyzer_intervals.txt", "perf_analyzer_profile.json"
MANIFEST = "manifest.jsonl"
"""What bench.py gets: the recordings in the order of perf_analyzer's input."""
_FIGURES = {
    "mean_ms": re.compile(r"Avg latency: (\d+) usec"),
    "p50_ms": re.compile(r"p50 latency: (\d+) usec"),
    "p95_ms": re.compile(r"p95 latency: (\d+) usec"),
    "server_mean_ms": re.compile(r"Avg request latency: (\d+) usec"),
}
_SHOWN = {
    "requests_per_second": "requests a second",
    "mean_ms": "latency mean, ms",
    "p50_ms": "latency p50, ms",
    "p95_ms": "latency p95, ms",
    "server_mean_ms": "the server's own mean, ms",
    "client_over_server": "client's mean / server's",
}


class PerfAnalyzerError(ClientError):
    """perf_analyzer gave no figures."""


@click.command()
@click.argument("model")
@click.option("--manifest", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default=DEFAULT_URL, show_default=True, metavar="HOST:PORT", help="The server.")
@click.option(
    "--repository",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Ask a server of our own of these models instead.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="For the input files.")
@click.option("--concurrency", type=click.IntRange(1), help="Closed loop.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Open loop, requests a second.")
@click.option("--passes", type=click.IntRange(1), default=5, show_default=True, help="Over the recordings.")
@click.option(
    "--perf-analyzer", "program", metavar="PATH", help="Run it, in turn with bench.py, and print both. Linux only."
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
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
    """Write perf_analyzer's input of mixed lengths, and print its command line for each load.

    With --perf-analyzer both tools run in turn, in so many rounds, with the same recordings in the same order and, in
    an open loop, at the same moments.
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
            url = stack.enter_context(serving(repository, [EXPLICIT, f"--load-model={model}"])).grpc
        for load in loads:
            if isinstance(load, OpenLoop):
                write_intervals(load.rate, requests, out / INTERVALS)
            command = [program or "perf_analyzer", *arguments(model, url, load, requests, out)]
            click.echo(shlex.join(command))
            if program:
                pairs = [
                    (ask_perf_analyzer(command, out / PROFILE), ask_bench(model, url, load, requests, out / MANIFEST))
                    for _ in range(rounds)
                ]
                Console(width=100).print(_table(f"{load.name}, {requests} requests", pairs))
    return exit_codes.EXIT_OK


def write_input(recordings: Sequence[Recording], file: Path) -> None:
    """Each recording as int16 of its own length; perf_analyzer sends them in turn."""
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
    """The gaps between bench.py's arrivals with its default seed, in microseconds."""
    plan = Plan(OpenLoop(rate), (0,), shuffled=False, seed=0, requests=requests)
    moments = [0.0, *(request.due for request in plan.part())]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    file.write_text("".join(f"{max(round(gap * 1e6), 1)}\n" for gap in gaps))


def write_manifest(recordings: Sequence[Recording], file: Path) -> None:
    """The recordings in the order of perf_analyzer's input."""
    lines = [
        json.dumps({"audio_filepath": str(recording.utterance.audio.resolve()), "text": recording.utterance.text or ""})
        for recording in recordings
    ]
    file.write_text("\n".join(lines) + "\n")


def arguments(model: str, url: str, load: Load, requests: int, folder: Path) -> list[str]:
    """perf_analyzer's command line, without its name."""
    shared = ["-m", model, "-i", "grpc", "-u", url, "--async", "--input-data", str(folder / INPUT)]
    shared += ["--request-count", str(requests)]
    if isinstance(load, ClosedLoop):
        return [*shared, "--concurrency-range", str(load.concurrency)]
    return [*shared, "--request-intervals", str(folder / INTERVALS)]


def ask_perf_analyzer(command: Sequence[str], profile: Path) -> dict[str, float]:
    """Its figures of one run, whose requests it writes to `profile`. Raises PerfAnalyzerError where it has none."""
    # It refuses a file that is there.
    profile.unlink(missing_ok=True)
    ended = subprocess.run([*command, "--profile-export-file", str(profile)], capture_output=True, text=True)
    matches = {name: pattern.search(ended.stdout) for name, pattern in _FIGURES.items()}
    if not all(matches.values()):
        # What is wrong stands first; all of its options follow.
        first = (ended.stderr.strip() or ended.stdout.strip() or "no output").splitlines()[0]
        raise PerfAnalyzerError(f"{command[0]} ended with code {ended.returncode} and no figures: {first}")
    milliseconds = {name: float(match[1]) / 1000 for name, match in matches.items() if match}
    return {"requests_per_second": requests_per_second(profile), **milliseconds}


def requests_per_second(profile: Path) -> float:
    """By the moments of each request, from the first one sent to the last answer.

    The throughput that perf_analyzer prints is over a window that it closes at the next look at the count, once in
    half a second or more.
    """
    requests = json.loads(profile.read_text())["experiments"][0]["requests"]
    first: int = min(request["timestamp"] for request in requests)
    last: int = max(moment for request in requests for moment in request["response_timestamps"])
    return len(requests) / (last - first) * 1e9


def ask_bench(model: str, url: str, load: Load, requests: int, manifest: Path) -> dict[str, float]:
    """The same figures of one run of client/bench.py. Raises PerfAnalyzerError where it has none."""
    flags = ["--concurrency", str(load.concurrency)] if isinstance(load, ClosedLoop) else ["--rate", str(load.rate)]
    flags += ["--requests", str(requests), "--order", "given"]
    with TemporaryDirectory() as folder:
        try:
            figures, code = run_bench(
                Bench(model=model, url=url, manifest=manifest), flags, Path(folder) / "bench.json"
            )
        except ResultsError as error:
            raise PerfAnalyzerError(f"{error}; its error stands above") from error
    if code:
        raise PerfAnalyzerError(f"bench.py ended with code {code}; its error stands above")
    (measured,) = figures["loads"]
    latencies = measured["latency_ms"]
    return {
        "requests_per_second": measured["requests_per_second"],
        "mean_ms": latencies["mean"],
        "p50_ms": latencies["p50"],
        "p95_ms": latencies["p95"],
        "server_mean_ms": measured["recognizer"]["request_ms"],
    }


def _table(what: str, rounds: Sequence[tuple[dict[str, float], dict[str, float]]]) -> Table:
    for pair in rounds:
        for figures in pair:
            figures["client_over_server"] = figures["mean_ms"] / figures["server_mean_ms"]
    table = Table(
        "figure",
        "perf_analyzer",
        "bench.py",
        "bench.py / perf_analyzer",
        title=f"{what}: medians of {len(rounds)} rounds",
        title_justify="left",
    )
    for name, shown in _SHOWN.items():
        theirs, ours = ([figures[name] for figures in side] for side in zip(*rounds, strict=True))
        ratios = [bench / other for bench, other in zip(ours, theirs, strict=True)]
        medians = (f"{statistics.median(side):.3f}" for side in (theirs, ours))
        table.add_row(shown, *medians, spread(ratios, 3))
    return table


if __name__ == "__main__":
    options.run(run)
