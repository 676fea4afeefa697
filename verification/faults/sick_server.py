"""Send bench.py's requests to two servers of which one is sick, and count what the sick one costs.

    python -m verification.faults.sick_server NAME --repository R --out docs/sick_server.md

A real tritonserver can't be made to fail half of its answers, so a stand-in in front of it injects the faults. The
other server is a stand-in without faults. Exit code 1 if a request is lost or a text changes.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import click

from benchmark.core.model_control import EXPLICIT
from benchmark.core.options import concurrency_option
from benchmark.core.results_folder import write_text
from benchmark.core.run_bench import Bench
from benchmark.core.serving import serving
from benchmark.core.tables import NONE, markdown_rows, percentage
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.terminal import options
from verification.faults.faulty_server import Fault, faulty_server
from verification.faults.kill_judge import Requests
from verification.faults.sick_servers import FAULTS
from verification.faults.stage_kill import run_disturbed, run_undisturbed

HEADINGS = ["the sick server answers", "requests", "scored", "failed", "texts changed", "to the sick server", "seconds"]


@dataclass(frozen=True, kw_only=True)
class Sick:
    """A run with one sick server of two.

    Attributes:
        fault: Name of the fault.
        requests: The requests to both servers.
        recognitions: Recognitions that the sick server got, probes included.
    """

    fault: str
    requests: Requests
    recognitions: int

    def lost(self, sent: int) -> bool:
        """Whether a request has no text or another one."""
        return self.requests.scored != sent or bool(self.requests.changed or self.requests.twice)


@click.command(help=__doc__)
@click.argument("model", metavar="NAME")
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option("--requests", type=click.IntRange(20), default=1000, show_default=True, help="Requests per fault.")
@concurrency_option(16, "Concurrent requests.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
def main(model: str, repository: Path, requests: int, concurrency: int, out: Path) -> int:
    with tempfile.TemporaryDirectory() as name, options.progress_bar() as progress:
        folder = Path(name)
        with serving(repository, [EXPLICIT, f"--load-model={model}"]) as server:
            bench = Bench(
                model=model,
                url=server.grpc,
                manifest=DEMO_MANIFEST,
                flags=("--concurrency", str(concurrency)),
            )
            undisturbed, texts = run_undisturbed(bench, folder, requests)
            runs = [
                measure(bench, name, fault, texts, folder, requests)
                for name, fault in progress.track(FAULTS.items(), description=model)
            ]
    page = markdown(model, undisturbed, runs, sent=requests, concurrency=concurrency)
    write_text(out, page)
    click.echo(page)
    return 1 if any(run.lost(requests) for run in runs) else 0


def measure(bench: Bench, name: str, fault: Fault, texts: dict[str, str], folder: Path, requests: int) -> Sick:
    """Run bench.py against a sick server and a healthy one.

    Args:
        bench: The recognizer and the address of the real server.
        name: Name of the fault.
        fault: The fault of the sick server.
        texts: Text of each audio file in the undisturbed run.
        folder: Folder for bench.py's files.
        requests: Number of requests.

    Raises:
        ResultsError: bench.py wrote no results.
    """
    with faulty_server(bench.url, fault) as sick, faulty_server(bench.url) as healthy:
        both = replace(bench, url=f"{sick.grpc},{healthy.grpc}")
        counted = run_disturbed(both, folder, requests, texts)
        return Sick(fault=name, requests=counted, recognitions=sick.recognitions)


def markdown(model: str, undisturbed: Requests, runs: list[Sick], *, sent: int, concurrency: int) -> str:
    """The page: a row for each fault."""
    lost = sum(run.lost(sent) for run in runs)
    rows = [["one server, no fault", *_counts(undisturbed, sent), NONE, f"{undisturbed.seconds:.0f}"]]
    for run in runs:
        share = f"{run.recognitions} ({percentage(run.recognitions / sent, 1)})"
        rows.append([run.fault, *_counts(run.requests, sent), share, f"{run.requests.seconds:.0f}"])
    return "\n".join(
        [
            "# One sick server of two",
            "",
            "In the checkout, after `make install`:",
            "",
            "```sh",
            "make sick-server",
            "```",
            "",
            f"{model}, {sent:,} requests of `client/bench.py` for each fault, {concurrency} concurrent, to two "
            "servers. One says that it is ready, but fails requests. "
            f"**{lost} of {len(runs)} faults lost a request or changed a text.** The sick server is a stand-in that "
            "forwards to a real one; so is the other.",
            "",
            *markdown_rows(HEADINGS, rows),
            "",
            "To the sick server: recognitions that it got, those that find out whether it is well again included. The "
            "client retries each on the other server.",
            "",
        ]
    )


def _counts(requests: Requests, sent: int) -> list[str]:
    return [f"{sent:,}", f"{requests.scored:,}", str(requests.failed), str(requests.changed)]


if __name__ == "__main__":
    options.run(main)
