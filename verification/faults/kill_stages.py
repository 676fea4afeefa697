"""Kill each stage's process of one of two servers under load, and check every response.

    python -m verification.faults.kill_stages NAME... --repository R --folder build/stage_kills --out docs/faults.md

Each kill has its own run of bench.py against both servers. A kill that has a result under the same conditions is
skipped, so an interrupted run can be continued. Exit code 1 if a request is lost, a text changes, or a server does not
end with an error and restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from benchmark.core.options import concurrency_option
from benchmark.core.results_folder import is_measured, read_json, write_json, write_text
from benchmark.core.run_bench import Bench
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST
from nemo_triton.errors import ServerUnavailableError, one_line
from nemo_triton.terminal import options
from server.process import ServerError
from verification.faults.kill_judge import Requests, StageKill
from verification.faults.kills_page import ModelKills, markdown
from verification.faults.restarting import RestartingServer
from verification.faults.stage_kill import kill_stage, run_undisturbed
from verification.server_processes import stages_of

SEED = 0
UNDER_LOAD = 0.1, 0.5
"""A kill comes when between these fractions of the requests have responses."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that all kills share.

    Attributes:
        repository: The model repository.
        folder: Folder for results and logs.
        manifest: Recordings to send.
        requests: Requests per kill.
        kills: Kills per stage.
        concurrency: Concurrent requests.
    """

    repository: Path
    folder: Path
    manifest: Path
    requests: int
    kills: int
    concurrency: int

    @property
    def conditions(self) -> dict[str, object]:
        """Conditions of a result. Results of other conditions are not reused."""
        return {"manifest": str(self.manifest), "requests": self.requests, "concurrency": self.concurrency}


@click.command(help=__doc__)
@click.argument("models", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for results and logs. Repeat the command with it to continue; remove it after a change of the code.",
)
@click.option("--kills", type=click.IntRange(1), default=10, show_default=True, help="Kills per stage.")
@click.option("--requests", type=click.IntRange(20), default=1000, show_default=True, help="Requests per kill.")
@concurrency_option(16, "Concurrent requests.")
@click.option(
    "--manifest",
    type=click.Path(exists=True, path_type=Path),
    default=DEMO_MANIFEST,
    help="Recordings to send.  [default: the demo's recordings]",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
def main(
    models: tuple[str, ...],
    repository: Path,
    folder: Path,
    kills: int,
    requests: int,
    concurrency: int,
    manifest: Path,
    out: Path,
) -> int:
    settings = Settings(
        repository=repository,
        folder=folder,
        manifest=manifest,
        requests=requests,
        kills=kills,
        concurrency=concurrency,
    )
    results = [measure(model, settings) for model in models]
    page = markdown(results, concurrency=concurrency)
    write_text(out, page)
    click.echo(page)
    return 1 if any(each.problems for each in results) else 0


def measure(model: str, settings: Settings) -> ModelKills:
    """Kill each stage's process of a recognizer, or read the earlier results.

    Raises:
        ServerUnavailableError: A server did not start.
        ResultsError: bench.py wrote no results.
    """
    results = settings.folder / model
    results.mkdir(parents=True, exist_ok=True)
    with two_servers(model, settings, results) as servers, options.progress_bar() as progress:
        bench = Bench(
            model=model,
            url=",".join(server.url for server in servers),
            manifest=settings.manifest,
            flags=("--concurrency", str(settings.concurrency)),
        )
        baseline = results / "undisturbed.json"
        if not is_measured(baseline, settings.conditions):
            requests, texts = run_undisturbed(bench, results, settings.requests)
            write_json(baseline, {"conditions": settings.conditions, "requests": asdict(requests), "texts": texts})
        undisturbed = read_json(baseline)
        stages = list(stages_of(servers[0].pid))
        planned = [(stage, number) for number in range(settings.kills) for stage in stages]
        kills = []
        for stage, number in progress.track(planned, description=model):
            file = results / f"{stage}_{number}.json"
            if not is_measured(file, settings.conditions):
                fraction = np.random.default_rng([SEED, number]).uniform(*UNDER_LOAD)
                kill = kill_stage(
                    bench,
                    servers[number % 2],
                    stage,
                    results,
                    requests=settings.requests,
                    after=round(fraction * settings.requests),
                    texts=undisturbed["texts"],
                )
                write_json(file, {"conditions": settings.conditions, "kill": asdict(kill)})
            entry = read_json(file)["kill"]
            kills.append(StageKill(**{**entry, "requests": Requests(**entry["requests"])}))
    return ModelKills(model=model, sent=settings.requests, undisturbed=Requests(**undisturbed["requests"]), kills=kills)


@contextmanager
def two_servers(model: str, settings: Settings, folder: Path) -> Iterator[tuple[RestartingServer, RestartingServer]]:
    """Serve a recognizer twice for the block.

    Raises:
        ServerUnavailableError: A server did not start.
    """
    only = ["--model-control-mode=explicit", f"--load-model={model}"]
    try:
        with (
            RestartingServer(settings.repository, only, folder, "server_a") as first,
            RestartingServer(settings.repository, only, folder, "server_b") as second,
        ):
            yield first, second
    except ServerError as error:
        raise ServerUnavailableError(one_line(error)) from error


if __name__ == "__main__":
    options.run(main)
