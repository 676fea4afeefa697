"""What a tritonserver answers for the recordings of a manifest: one at a time, and many at once.

    python -m verification.full_size.serve_and_collect NAME --repository R --manifest M.jsonl --out results/NAME

Writes into OUT: alone.jsonl, together.jsonl (CTC only) and text.jsonl (many at once through the ensemble
without log-probs), each with its log-probs beside it as .npz, and served.json with what the server
counted, the graphs' size and what the export found. Results newer than the model are left as they are.
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
from benchmark.core.results_folder import write_text
from nemo_triton.contract import Part
from nemo_triton.loadtest.server_counters import StepStatistics, difference
from nemo_triton.loadtest.servers import Servers
from nemo_triton.recognizer import AsyncRecognizer
from server.process import running_server
from verification.full_size.architectures import ARCHITECTURES
from verification.full_size.records import Record, is_done, is_of, write_records
from verification.full_size.speech import Recording, read_recordings

LOAD_SECONDS = 600
REQUEST_SECONDS = 600


@dataclass(frozen=True)
class Pass:
    """One way to ask for all recordings."""

    name: str
    at_once: int
    log_probs: bool


@dataclass(frozen=True)
class Counted:
    """How fast a pass was, in seconds of audio a second, and how batched."""

    rtfx: float
    steps: list[StepStatistics]


def passes(is_transducer: bool, at_once: int) -> tuple[Pass, ...]:
    """A transducer has no log-probs to give."""
    if is_transducer:
        return Pass("alone", 1, False), Pass("text", at_once, False)
    return Pass("alone", 1, True), Pass("together", at_once, True), Pass("text", at_once, False)


@click.command(help=__doc__)
@click.argument("name", type=click.Choice(list(ARCHITECTURES)))
@click.option("--repository", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--manifest", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option("--recordings", "at_most", type=click.IntRange(1), help="Only so many, spread over their lengths.")
@click.option("--at-once", type=click.IntRange(1), default=16, show_default=True, help="Requests in flight.")
def main(name: str, repository: Path, manifest: Path, out: Path, at_most: int | None, at_once: int) -> None:
    recordings = read_recordings(manifest, at_most)
    summary = out / "served.json"
    if (
        is_done(summary, repository / name / "config.pbtxt", manifest)
        and is_of(out / "text.jsonl", [recording.name for recording in recordings])
        and json.loads(summary.read_text()).get("at_once") == at_once
    ):
        click.echo(f"{summary}: is there already")
        return
    out.mkdir(parents=True, exist_ok=True)
    is_transducer = ARCHITECTURES[name].is_transducer
    served = [name] if is_transducer else [name, Part.LOG_PROBS.of(name)]
    only = [EXPLICIT, *(f"--load-model={model}" for model in served)]
    console = Console(stderr=True)
    with console.status(name) as status, running_server(repository, only, seconds=LOAD_SECONDS) as server:
        counted = {}
        for way in passes(is_transducer, at_once):
            status.update(f"{name}: {way.name}")
            records, counted[way.name] = asyncio.run(collect(server.grpc, name, recordings, way))
            write_records(out / f"{way.name}.jsonl", records)
    steps = [step.model for step in counted["text"].steps]
    results = {
        "at_once": at_once,
        "graphs_bytes": sum(graph_size(repository / step) for step in steps),
        "parity": json.loads((repository / name / "1" / "parity.json").read_text()),
        "passes": {way: asdict(entry) for way, entry in counted.items()},
    }
    write_text(summary, json.dumps(results, indent=2) + "\n")
    rates = ", ".join(f"{way} {entry.rtfx:.0f}" for way, entry in counted.items())
    click.echo(f"{summary}: {len(recordings)} recordings; seconds of audio a second: {rates}")


def graph_size(model: Path) -> int:
    """Bytes."""
    return sum(file.stat().st_size for file in (model / "1").iterdir() if file.suffix == ".onnx")


async def collect(url: str, name: str, recordings: Sequence[Recording], way: Pass) -> tuple[list[Record], Counted]:
    """Records in the order of `recordings`, which are asked for in random order; and how fast, and how batched."""
    order = random.Random(0).sample(range(len(recordings)), len(recordings))
    records: dict[int, Record] = {}

    async def ask_until_done(recognizer: AsyncRecognizer, rest: Callable[[], int | None]) -> None:
        while (row := rest()) is not None:
            records[row] = await _ask(recognizer, recordings[row], way.log_probs)

    async with AsyncRecognizer(name, url, timeout=REQUEST_SECONDS) as recognizer:
        servers = Servers(recognizer)
        before, started = await servers.step_counters(), time.perf_counter()
        rows = iter(order)
        await asyncio.gather(*(ask_until_done(recognizer, lambda: next(rows, None)) for _ in range(way.at_once)))
        spent = time.perf_counter() - started
        steps = difference(before, await servers.step_counters())
    audio_seconds = sum(recording.seconds for recording in recordings)
    return [records[row] for row in range(len(recordings))], Counted(audio_seconds / spent, steps)


async def _ask(recognizer: AsyncRecognizer, recording: Recording, log_probs: bool) -> Record:
    answer = await recognizer.transcribe(recording.samples, log_probs)
    tokens = [int(token) for token in answer.tokens]
    frames = [round(seconds / recognizer.model.frame_seconds) for seconds in answer.token_times]
    return Record(recording.name, recording.seconds, answer.text, tokens, answer.log_probs, frames)


if __name__ == "__main__":
    main()
