"""The command that measures a served recognizer: `python client/bench.py --model NAME --manifest FILE`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.progress import Progress

from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ClientError, one_line
from nemo_triton.loadtest.figures import CLOCK, Results, as_json, build_results
from nemo_triton.loadtest.run import Advance, BenchRun, RunSettings
from nemo_triton.loadtest.schedule import ClosedLoop, Load, OpenLoop
from nemo_triton.loadtest.wer import NORMALIZATIONS
from nemo_triton.manifest import Utterance, read_manifest
from nemo_triton.terminal import exit_codes, options
from nemo_triton.terminal.tables import print_results

DEFAULT_CONCURRENCY = 16


@dataclass(frozen=True)
class ProgressReporter:
    """Shows a load test's problems as lines on stderr, and its progress as bars."""

    bar: Progress

    def problem(self, line: str) -> None:
        """Print one line."""
        exit_codes.print_error(line)

    def begin_task(self, description: str, total: int | None) -> Advance:
        """Add a bar."""
        # Not before: what connecting says would come with an empty bar.
        self.bar.start()
        return partial(self.bar.advance, self.bar.add_task(description, total=total))

    def close(self) -> None:
        """Leave the bars as they are."""
        self.bar.stop()


@click.command(epilog=CLOCK)
@options.connection_options
@click.option(
    "--manifest",
    default=str(DEMO_MANIFEST),
    metavar="FILE",
    help="NeMo JSON lines, or a CSV filename,transcript.  [default: the coffee orders in nemo_triton/demo_speech]",
)
@click.option(
    "--concurrency",
    callback=options.number_list(click.IntRange(min=1)),
    default="",
    metavar="N[,N...]",
    help="Closed loop: so many requests in flight; a list is a sweep.  [default: 16, where no --rate is given]",
)
@click.option(
    "--rate",
    callback=options.number_list(click.FloatRange(min=0, min_open=True)),
    default="",
    metavar="R[,R...]",
    help="Open loop: so many requests a second at random (Poisson) moments, whatever the server does; a list is a "
    "sweep.",
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Requests under each load.  [default: one for each utterance, or as many as --duration allows]",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Send for so long under each load, utterances again and again.",
)
@click.option(
    "--order",
    type=click.Choice(["shuffled", "sorted", "given"]),
    default="shuffled",
    show_default=True,
    help="Of the utterances; sorted is the longest first, given the manifest's.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of order and arrivals.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Python processes that send, where one can't keep the server busy.",
)
@click.option(
    "--shared-memory",
    is_flag=True,
    help="The server, on this machine, reads the audio from shared memory instead of from the wire.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="How often to ask again where the server is not there or has no room; its time counts as latency.",
)
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
    help="Requests sent before the clock starts.  [default: as many as the first load has in flight]",
)
@click.option(
    "--worst",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Show so many utterances with the most wrong words, with their differences.",
)
@click.option(
    "--metrics-url",
    "metrics_urls",
    metavar="URL[,URL...]",
    callback=options.names,
    default="",
    help="Triton's metrics, for CPU, GPU and memory, which never come by TLS.  [default: port 8002 of each server]",
)
@click.option(
    "--rows",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=options.check_output,
    help="Write each answer there as it comes, as JSON lines.",
)
@click.option("--resume", is_flag=True, help="Go on where the run that wrote --rows was interrupted or killed.")
@click.option(
    "--json",
    "json_path",
    metavar="FILE|-",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=Path),
    callback=options.check_output,
    help="Also write the figures and all that is needed to repeat them; - is standard output, the tables then go to "
    "stderr.",
)
def bench(
    manifest: str,
    concurrency: tuple[int, ...],
    rate: tuple[float, ...],
    requests: int | None,
    duration: float | None,
    warmup: int | None,
    worst: int,
    metrics_urls: tuple[str, ...],
    rows: Path | None,
    resume: bool,
    json_path: Path | None,
    **settings: Any,
) -> int:
    """Measure throughput, latency and word error rate of a recognizer over a manifest.

    An utterance that cannot be read or whose request fails gives one line on standard error; the rest is measured, and
    the exit code is 2.
    """
    if resume and rows is None:
        raise click.UsageError("--resume needs --rows, the file of the run to go on with")
    normalization = settings.pop("normalization")
    listed = read_manifest(manifest, text_required=True)
    loads: list[Load] = [*map(ClosedLoop, concurrency), *map(OpenLoop, rate)] or [ClosedLoop(DEFAULT_CONCURRENCY)]
    in_flight = loads[0].concurrency if isinstance(loads[0], ClosedLoop) else DEFAULT_CONCURRENCY
    reporter = ProgressReporter(options.progress_bar())
    run = BenchRun(
        RunSettings(
            loads=loads,
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
    for problem in listed.problems:
        run.fail(problem)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    interrupted = _measure(run, reporter, listed.utterances)
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
        setting, run.runs, run.recordings, problems=run.problems, complete=run.complete, notes=run.notes
    )
    print_and_write(results, worst, json_path)
    if interrupted:
        return exit_codes.EXIT_INTERRUPTED
    return exit_codes.EXIT_PROBLEM if results.failures or results.notes else exit_codes.EXIT_OK


def _measure(run: BenchRun, reporter: ProgressReporter, utterances: Sequence[Utterance]) -> bool:
    """Measure to the end, or for as long as it goes; returns whether the user interrupted it."""
    try:
        with closing(reporter):
            asyncio.run(run.measure(utterances))
    except KeyboardInterrupt:
        hint = "; --resume goes on" if run.settings.rows else ""
        exit_codes.print_error(f"interrupted; {run.answered} requests were answered{hint}")
        return True
    except (ClientError, OSError) as error:
        # What was measured before is worth more than the error that ended it.
        if not run.answered:
            raise
        run.note(one_line(error))
    return False


def print_and_write(results: Results, worst: int, json_path: Path | None) -> None:
    """Print the tables, and write the JSON if `json_path` names a file or - for stdout."""
    to_stdout = json_path == Path("-")
    print_results(results, worst, options.console(stderr=to_stdout))
    if json_path is None:
        return
    text = json.dumps(as_json(results, worst), indent=2)
    if to_stdout:
        click.echo(text)
    else:
        json_path.write_text(text + "\n", encoding="utf-8")


def _json_value(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def main() -> NoReturn:
    """Run the command and end this process with its exit code."""
    options.run(bench)


if __name__ == "__main__":
    main()
