"""The command `python client/bench.py --model NAME --manifest FILE`, which load-tests a served recognizer."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.progress import Progress

from nemo_triton.audio import Channel
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError, one_line
from nemo_triton.loadtest.csv_rows import COLUMNS, CSV_START, csv_rows
from nemo_triton.loadtest.figures import CLOCK, Results, build_results
from nemo_triton.loadtest.figures_json import JSON_START, as_json
from nemo_triton.loadtest.run import Advance, BenchRun, RunSettings
from nemo_triton.loadtest.schedule import ClosedLoop, Load, OpenLoop
from nemo_triton.loadtest.slo import EXAMPLE, Objective
from nemo_triton.loadtest.wer import NORMALIZATIONS
from nemo_triton.manifest import Utterance, read_manifest
from nemo_triton.terminal import exit_codes, options
from nemo_triton.terminal.channel_option import channel_option
from nemo_triton.terminal.native_output import LibraryOutput, separate_stderr
from nemo_triton.terminal.outputs import check_different, check_is_result, check_not_an_input
from nemo_triton.terminal.tables import print_results

DEFAULT_CONCURRENCY = 16

_SECTIONS = {
    "Recognizer and recordings": ("model", "manifest", "channel", "url"),
    "Load": ("concurrency", "rate", "wait_for_room", "objective", "duration", "requests"),
    "Results": ("json_path", "csv_path", "rows", "resume", "worst_utterances", "normalization"),
    "Client": ("processes", "shared_memory", "warmup", "timeout", "retries", "order", "seed"),
    "Server": ("metrics_urls", "tls", "ca", "certificate", "key"),
}


@dataclass(frozen=True)
class ProgressReporter:
    """A reporter with progress bars, which prints problems as lines on stderr.

    Attributes:
        bar: The progress bars.
        libraries: What native libraries print on stderr.
    """

    bar: Progress
    libraries: LibraryOutput

    def problem(self, line: str) -> None:
        """Print one error line."""
        exit_codes.print_error(line)

    def warning(self, line: str) -> None:
        """Print one warning line."""
        exit_codes.print_warning(line)

    def begin_task(self, description: str, total: int | None) -> Advance:
        """Add a bar."""
        # Start the bars here. If they started earlier, lines printed while connecting would come with an empty bar.
        self.bar.start()
        return partial(self.bar.advance, self.bar.add_task(description, total=total))

    def decoding(self) -> AbstractContextManager[None]:
        """Keep the notes of decoders away from stderr."""
        return self.libraries.silenced()

    def close(self) -> None:
        """Stop updating the bars."""
        self.bar.stop()


def _read_objective(context: click.Context, parameter: click.Parameter, text: str | None) -> Objective | None:
    try:
        return None if text is None else Objective.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _output_option(
    name: str, parameter: str, metavar: str, text: str, allow_stdout: bool = False
) -> Callable[[options.Command], options.Command]:
    """An option for an output file."""
    kind = click.Path(dir_okay=False, writable=True, allow_dash=allow_stdout, path_type=Path)
    return click.option(name, parameter, metavar=metavar, type=kind, callback=options.check_output, help=text)


@click.command(
    cls=options.SectionedCommand,
    sections=_SECTIONS,
    epilog=CLOCK,
    short_help="Measure speed and word error rate.",
)
@options.connection_options
@click.option(
    "--manifest",
    default=str(DEMO_MANIFEST),
    metavar="FILE",
    help="Recordings and their texts: NeMo's JSON lines, a CSV with filename,transcript, or another form that "
    "docs/client.md lists, such as Kaldi's folder.  [default: the coffee orders in nemo_triton/demo_speech]",
)
@channel_option("Channel of stereo files; N counts from 0. The manifest's channel field takes precedence.")
@click.option(
    "--concurrency",
    callback=options.number_list(click.IntRange(min=1)),
    default="",
    metavar="N[,N...]",
    help="Concurrent requests (closed loop), to find the throughput. A comma-separated list runs a sweep.  [default: "
    f"{DEFAULT_CONCURRENCY}]",
)
@click.option(
    "--rate",
    callback=options.number_list(click.FloatRange(min=0, min_open=True)),
    default="",
    metavar="R[,R...]",
    help="Requests per second at random times (open loop), to find the latency under load. A comma-separated list runs "
    "a sweep. With --concurrency, both run, one after the other.",
)
@click.option(
    "--wait-for-room",
    is_flag=True,
    help="With --rate: requests wait in the client if queues are full, like those of nemo_triton.Recognizer. Those "
    "that find no room within --timeout count as refused.",
)
@click.option(
    "--slo",
    "objective",
    callback=_read_objective,
    metavar="pNN=TIME",
    help=f"Search for the highest rate that keeps a latency objective, e.g. {EXAMPLE}. p50, p90, p95 or p99; unit ms "
    "or s.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Send for this time under each load, and repeat the recordings. Longer is steadier.  [default with --slo: 10 "
    "to 60 s]",
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Requests under each load.  [default: one per utterance, or as many as --duration allows]",
)
@_output_option(
    "--json", "json_path", "FILE|-", "Write all figures as JSON; - writes them to stdout.", allow_stdout=True
)
@_output_option("--csv", "csv_path", "FILE", "Write one row per load, for spreadsheets.")
@_output_option("--rows", "rows", "FILE", "Write each response as a JSON line when it arrives.")
@click.option("--resume", is_flag=True, help="Continue the interrupted run that wrote --rows.")
@click.option(
    "--worst",
    "worst_utterances",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Show the N utterances with the most wrong words, aligned with their references.",
)
@click.option(
    "--normalization",
    type=click.Choice(list(NORMALIZATIONS)),
    default="basic",
    show_default=True,
    help="Text normalization before WER. basic ignores case and punctuation.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of sending processes. Use more if one can't saturate the server.",
)
@click.option(
    "--shared-memory",
    is_flag=True,
    help="Pass audio in shared memory instead of over the network. For a server on the same machine.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    metavar="N",
    help="Requests before the measurement.  [default: the first concurrency]",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Extra retries of a request if the server is down. With several servers, failed requests move to another "
    "server in any case. The time of retries counts as latency.",
)
@click.option(
    "--order",
    type=click.Choice(["shuffled", "sorted", "given"]),
    default="shuffled",
    show_default=True,
    help="Order of the recordings. sorted: longest first; given: as in the manifest.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the order and arrival times. The same seed repeats the same load.",
)
@click.option(
    "--metrics-url",
    "metrics_urls",
    metavar="URL[,URL...]",
    callback=options.names,
    default="",
    help="Triton's metrics, to measure CPU, GPU and memory.  [default: the gRPC port + 1, or port 8002]",
)
def bench(
    manifest: str,
    channel: Channel,
    concurrency: tuple[int, ...],
    rate: tuple[float, ...],
    wait_for_room: bool,
    objective: Objective | None,
    requests: int | None,
    duration: float | None,
    warmup: int | None,
    worst_utterances: int,
    metrics_urls: tuple[str, ...],
    rows: Path | None,
    resume: bool,
    json_path: Path | None,
    csv_path: Path | None,
    **settings: Any,
) -> int:
    """Measure throughput, latency and word error rate of a recognizer.

    An utterance that can't be read or whose request fails prints one line to stderr. The others are measured, and the
    exit code is 2.
    """
    if resume and rows is None:
        raise click.UsageError("--resume needs --rows, the file of the run to continue")
    if wait_for_room and not rate:
        raise click.UsageError("--wait-for-room needs --rate; closed loops always wait, and --slo never")
    if objective and (concurrency or rate):
        raise click.UsageError("--slo chooses the loads itself; leave out --concurrency and --rate")
    if objective and resume:
        raise click.UsageError("--slo can't be resumed; leave out --resume and name a new file for --rows")
    normalization = settings.pop("normalization")
    listed = read_manifest(manifest, text_required=True)
    utterances = [_with_channel(utterance, channel) for utterance in listed.utterances]
    check_different({"--rows": rows, "--json": json_path, "--csv": csv_path})
    inputs = [*listed.sources, *(utterance.audio for utterance in utterances)]
    for option, path, start in (("--json", json_path, JSON_START), ("--csv", csv_path, CSV_START)):
        check_not_an_input(option, path, inputs)
        check_is_result(option, path, start)
    loads: list[Load] = [*map(ClosedLoop, concurrency), *(OpenLoop(each, wait_for_room) for each in rate)]
    if not loads and not objective:
        loads = [ClosedLoop(DEFAULT_CONCURRENCY)]
    in_flight = loads[0].concurrency if loads and isinstance(loads[0], ClosedLoop) else DEFAULT_CONCURRENCY
    # Before the bars, which keep Python's stderr for themselves.
    libraries = click.get_current_context().with_resource(separate_stderr())
    reporter = ProgressReporter(options.progress_bar(), libraries)
    run = BenchRun(
        RunSettings(
            loads=loads,
            objective=objective,
            requests=requests,
            seconds=duration,
            warmup=in_flight if warmup is None else warmup,
            metrics_urls=metrics_urls,
            rows=rows,
            resume=resume,
            **settings,
        ),
        reporter,
    )
    for note in listed.notes:
        reporter.warning(note)
    for problem in listed.problems:
        run.fail(problem)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    interrupted = _measure(run, reporter, utterances)
    if interrupted and not run.answered:
        return exit_codes.EXIT_INTERRUPTED
    setting = {
        "started": started,
        "flags": {name: _json_value(value) for name, value in click.get_current_context().params.items()},
        "manifest": manifest,
        "normalization": normalization,
        **run.setting(),
    }
    results = build_results(
        setting,
        run.runs,
        run.recordings,
        problems=run.problems,
        complete=run.complete,
        notes=run.notes,
        search=run.search,
    )
    print_and_write(results, worst_utterances, json_path, csv_path)
    if interrupted:
        return exit_codes.EXIT_INTERRUPTED
    return exit_codes.EXIT_PROBLEM if results.failures or results.notes else exit_codes.EXIT_OK


def _with_channel(utterance: Utterance, channel: Channel) -> Utterance:
    """The utterance, with the channel if it names none; the average needs no name."""
    return utterance if channel == "average" or utterance.channel is not None else replace(utterance, channel=channel)


def _measure(run: BenchRun, reporter: ProgressReporter, utterances: Sequence[Utterance]) -> bool:
    """Run the load test; returns whether the user interrupted it."""
    try:
        with closing(reporter):
            asyncio.run(run.measure(utterances))
    except KeyboardInterrupt:
        can_resume = run.settings.rows and not run.search
        hint = "; continue with --resume" if can_resume else ""
        exit_codes.print_error(f"interrupted; {run.answered} requests were answered{hint}")
        return True
    except (ClientError, OSError) as error:
        # Keep the results so far if there are any.
        if not run.answered:
            raise
        run.note(one_line(error))
    return False


def print_and_write(
    results: Results, worst_utterances: int, json_path: Path | None, csv_path: Path | None = None
) -> None:
    """Print the tables and write the files.

    Args:
        results: Figures of the run.
        worst_utterances: Number of utterances to show, those with the most wrong words.
        json_path: JSON file; - writes to stdout and prints the tables to stderr.
        csv_path: CSV file with one row per load.
    """
    to_stdout = json_path == Path("-")
    print_results(results, worst_utterances, options.console(stderr=to_stdout))
    if csv_path is not None:
        with csv_path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(csv_rows(results))
    if json_path is None:
        return
    text = json.dumps(as_json(results, worst_utterances), indent=2)
    if to_stdout:
        click.echo(text)
    else:
        json_path.write_text(text + "\n", encoding="utf-8")


def _json_value(value: object) -> object:
    if isinstance(value, Objective):
        return value.name
    return str(value) if isinstance(value, Path) else value


def main() -> NoReturn:
    """Run the command and end this process with its exit code."""
    options.run(bench)


if __name__ == "__main__":
    main()
