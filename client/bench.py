"""The command that measures a served recognizer: `python client/bench.py --model NAME --manifest FILE`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console

from client import cli
from client.audio import load_audio
from client.concurrency import map_in_order
from client.errors import AudioError
from client.load import LoadRun, Recording, Response, run_load, warm_up
from client.manifest import Utterance, read_manifest
from client.recognizer import AsyncRecognizer
from client.report import CLOCK, Report, Setting, as_json, build_report, print_report
from client.scoring import NORMALIZATIONS

DEMO_MANIFEST = Path(__file__).parent.parent / "demo" / "commands" / "manifest.jsonl"

_FILES_READ_AT_ONCE = 4

# Wide enough for the longest model names; a pipe has no width of its own.
_WIDTH_WITHOUT_TERMINAL = 120


@click.command(epilog=CLOCK)
@cli.connection_options
@click.option(
    "--manifest",
    default=str(DEMO_MANIFEST),
    metavar="FILE",
    help="NeMo JSON lines, or a CSV filename,transcript.  [default: the coffee orders in demo/commands]",
)
@cli.concurrency_option(default=16)
@click.option(
    "--normalization",
    type=click.Choice(list(NORMALIZATIONS)),
    default="basic",
    show_default=True,
    help="What is done to both texts before words are compared.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    metavar="N",
    help="Requests sent before the clock starts.  [default: as many as --concurrency]",
)
@click.option(
    "--json",
    "json_path",
    metavar="FILE|-",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    callback=cli.check_output,
    help="Also write the figures and a row for each utterance; - is standard output, the table then goes to stderr.",
)
def bench(
    model: str | None,
    url: str,
    timeout: float,
    manifest: str,
    concurrency: int,
    normalization: str,
    warmup: int | None,
    json_path: str | None,
) -> int:
    """Measure throughput, latency and word error rate of a recognizer in one closed loop over a manifest.

    An utterance that cannot be read or whose request fails gives one line on standard error; the rest is measured, and
    the exit code is 2.
    """
    listed = read_manifest(manifest, text_required=True)
    session = Session(AsyncRecognizer(model, url, timeout), concurrency, concurrency if warmup is None else warmup)
    for problem in listed.problems:
        session.fail(problem)
    interrupted = False
    try:
        asyncio.run(session.measure(listed.utterances))
    except KeyboardInterrupt:
        interrupted = True
        answered = len(session.run.responses)
        cli.print_error(f"interrupted; {answered} of {len(listed.utterances)} utterances were answered")
        if not answered:
            return cli.EXIT_INTERRUPTED
    setting = Setting(session.recognizer.model.name, url, manifest, concurrency, normalization)
    publish(build_report(setting, session.run, session.failures, interrupted), json_path)
    return cli.EXIT_INTERRUPTED if interrupted else cli.EXIT_PROBLEM if session.failures else cli.EXIT_OK


@dataclass
class Session:
    """One run of the command; holds what is measured so far, so that an interrupt loses none of it."""

    recognizer: AsyncRecognizer
    concurrency: int
    warmup: int
    run: LoadRun = field(default_factory=LoadRun)
    failures: list[str] = field(default_factory=list)

    def fail(self, line: str) -> None:
        """Note and print one utterance that has no result."""
        self.failures.append(line)
        cli.print_error(line)

    async def measure(self, utterances: Sequence[Utterance]) -> None:
        """Connect, read all audio, warm up, then run the closed loop."""
        async with self.recognizer:
            with cli.progress_bar() as progress:
                reading = progress.add_task("reading audio", total=len(utterances))
                recordings = []
                async with aclosing(map_in_order(self._read, utterances, _FILES_READ_AT_ONCE)) as results:
                    async for recording in results:
                        progress.advance(reading)
                        if recording is not None:
                            recordings.append(recording)
                if not recordings:
                    return
                await warm_up(self.recognizer, recordings, self.warmup, self.concurrency)
                sending = progress.add_task("recognizing", total=len(recordings))

                def on_response(response: Response) -> None:
                    progress.advance(sending)
                    if response.error is not None:
                        self.fail(f"{response.recording.utterance.name}: {response.error}")

                await run_load(self.recognizer, recordings, self.concurrency, self.run, on_response)

    async def _read(self, utterance: Utterance) -> Recording | None:
        try:
            return Recording(utterance, await asyncio.to_thread(load_audio, utterance.audio))
        except AudioError as error:
            self.fail(str(error))
            return None


def publish(report: Report, json_path: str | None) -> None:
    """Print the table, and write the JSON where it was asked for."""
    console = Console(stderr=json_path == "-")
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    print_report(report, console)
    if json_path is None:
        return
    text = json.dumps(as_json(report), indent=2, ensure_ascii=False)
    if json_path == "-":
        click.echo(text)
    else:
        Path(json_path).write_text(text + "\n", encoding="utf-8", errors="surrogateescape")


if __name__ == "__main__":
    cli.run(bench)
