"""Serve a model and transcribe the recordings of a manifest, one at a time and with concurrent requests.

    python -m verification.full_size.serve_and_collect NAME --repository R --manifest M.jsonl --out results/NAME

There are up to three passes: one request at a time, concurrent requests with log-probs (CTC only), and concurrent
requests without. OUT gets the transcripts of each pass (.jsonl, log-probs in an .npz of the same name), and served.json
with the server's counters, the size of the graphs, and the export's parity.json. Results newer than the model are kept.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console

from benchmark.core.model_control import EXPLICIT
from benchmark.core.options import concurrency_option
from benchmark.core.results_folder import write_text
from nemo_triton.contract import Part
from nemo_triton.loadtest.server_counters import StepStatistics, difference
from nemo_triton.loadtest.servers import Servers
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.terminal import options
from server.process import running_server
from verification.full_size.architectures import RECOGNIZERS
from verification.full_size.records import (
    BATCHED,
    BATCHED_WITH_LOG_PROBS,
    RECORDINGS_HELP,
    UNBATCHED,
    Record,
    is_done,
    is_of,
    write_records,
)
from verification.full_size.speech import Recording, read_recordings

LOAD_SECONDS = 600
"""Time that the server may take to load the model."""
REQUEST_SECONDS = 600
"""Timeout of a request."""


@dataclass(frozen=True)
class Pass:
    """One pass over all recordings.

    Attributes:
        name: Name of its result files.
        concurrency: Concurrent requests.
        log_probs: Whether log-probs are requested.
    """

    name: str
    concurrency: int
    log_probs: bool


@dataclass(frozen=True)
class PassStatistics:
    """Speed and batches of a pass.

    Attributes:
        rtfx: Seconds of audio per second.
        steps: The server's counters, by stage.
    """

    rtfx: float
    steps: list[StepStatistics]


def passes(is_transducer: bool, concurrency: int) -> tuple[Pass, ...]:
    """The passes of a model; transducers have no log-probs."""
    text = Pass(BATCHED, concurrency, False)
    if is_transducer:
        return Pass(UNBATCHED, 1, False), text
    return Pass(UNBATCHED, 1, True), Pass(BATCHED_WITH_LOG_PROBS, concurrency, True), text


@click.command(help=__doc__)
@click.argument("name", metavar="NAME", type=click.Choice(list(RECOGNIZERS)))
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), required=True, help="Recordings to use.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--recordings", "at_most", type=click.IntRange(1), help=RECORDINGS_HELP)
@concurrency_option(16, "Concurrent requests.")
def main(name: str, repository: Path, manifest: Path, out: Path, at_most: int | None, concurrency: int) -> None:
    recordings = read_recordings(manifest, at_most)
    summary = out / "served.json"
    if (
        is_done(summary, repository / name / "config.pbtxt", manifest)
        and is_of(out / f"{BATCHED}.jsonl", [recording.name for recording in recordings])
        and json.loads(summary.read_text()).get("at_once") == concurrency
    ):
        click.echo(f"{summary}: up to date")
        return
    out.mkdir(parents=True, exist_ok=True)
    is_transducer = RECOGNIZERS[name].is_transducer
    served = [name] if is_transducer else [name, Part.LOG_PROBS.of(name)]
    only = [EXPLICIT, *(f"--load-model={model}" for model in served)]
    console = Console(stderr=True)
    with console.status(name) as status, running_server(repository, only, seconds=LOAD_SECONDS) as server:
        statistics = {}
        for one_pass in passes(is_transducer, concurrency):
            status.update(f"{name}: {one_pass.name}")
            records, statistics[one_pass.name] = asyncio.run(collect(server.grpc, name, recordings, one_pass))
            write_records(out / f"{one_pass.name}.jsonl", records)
    steps = [step.model for step in statistics[BATCHED].steps]
    results = {
        "at_once": concurrency,
        "graphs_bytes": sum(graph_size(repository / step) for step in steps),
        "parity": json.loads((repository / name / "1" / "parity.json").read_text()),
        "passes": {pass_name: asdict(entry) for pass_name, entry in statistics.items()},
    }
    write_text(summary, json.dumps(results, indent=2) + "\n")
    rates = ", ".join(f"{pass_name} {entry.rtfx:.0f}" for pass_name, entry in statistics.items())
    click.echo(f"{summary}: {len(recordings)} recordings; RTFx: {rates}")


def graph_size(model: Path) -> int:
    """Size of a model's graphs in bytes."""
    return sum(file.stat().st_size for file in (model / "1").iterdir() if ".onnx" in file.suffixes)


async def collect(
    url: str, name: str, recordings: Sequence[Recording], one_pass: Pass
) -> tuple[list[Record], PassStatistics]:
    """Transcribe all recordings in random order.

    Args:
        url: Address of the gRPC endpoint as host:port.
        name: The recognizer.
        recordings: Recordings to send.
        one_pass: Pass that says how to send the recordings.

    Returns:
        The records in the order of `recordings`, and the statistics of the pass.
    """
    order = random.Random(0).sample(range(len(recordings)), len(recordings))
    records: dict[int, Record] = {}

    async def send_until_done(recognizer: AsyncRecognizer, next_row: Callable[[], int | None]) -> None:
        while (row := next_row()) is not None:
            records[row] = await _transcribe(recognizer, recordings[row], one_pass.log_probs)

    async with AsyncRecognizer(name, url, timeout=REQUEST_SECONDS) as recognizer:
        servers = Servers(recognizer)
        before, started = await servers.step_counters(), time.perf_counter()
        rows = iter(order)
        senders = (send_until_done(recognizer, lambda: next(rows, None)) for _ in range(one_pass.concurrency))
        await asyncio.gather(*senders)
        spent = time.perf_counter() - started
        steps = difference(before, await servers.step_counters())
    audio_seconds = sum(recording.seconds for recording in recordings)
    return [records[row] for row in range(len(recordings))], PassStatistics(audio_seconds / spent, steps)


async def _transcribe(recognizer: AsyncRecognizer, recording: Recording, log_probs: bool) -> Record:
    transcript = await recognizer.transcribe(recording.samples, log_probs)
    tokens = [int(token) for token in transcript.tokens]
    frames = [round(seconds / recognizer.model.frame_seconds) for seconds in transcript.token_times]
    return Record(recording.name, recording.seconds, transcript.text, tokens, transcript.log_probs, frames)


if __name__ == "__main__":
    options.run(main)
