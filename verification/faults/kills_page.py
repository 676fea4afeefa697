"""The results of kill_stages, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmark.core.tables import NONE, markdown_rows, percentage
from verification.faults.kill_judge import NOT_READY_SECONDS, Requests, StageKill, problems

TITLE = "# Killed model processes"
COMMAND = """In the checkout, after `make install`:

```sh
make stage-kills
```"""
_MAX_LINES = 20
"""Kills out of bounds that are listed."""


@dataclass(frozen=True, kw_only=True)
class ModelKills:
    """All kills of one recognizer.

    Attributes:
        model: Name of the recognizer.
        sent: Number of requests in each run.
        undisturbed: The run without a kill.
        kills: Kills of all stages.
    """

    model: str
    sent: int
    undisturbed: Requests
    kills: Sequence[StageKill]

    @property
    def problems(self) -> list[str]:
        """One line per kill that is out of bounds."""
        wrong = [(kill.stage, problems(kill, self.undisturbed, self.sent)) for kill in self.kills]
        return [f"{self.model}, {stage}: {'; '.join(phrases)}" for stage, phrases in wrong if phrases]


def markdown(results: Sequence[ModelKills], *, concurrency: int) -> str:
    """The page: kills by stage, their requests, and what is out of bounds."""
    kills = sum(len(each.kills) for each in results)
    wrong = [line for each in results for line in each.problems]
    return "\n".join(
        [
            TITLE,
            "",
            COMMAND,
            "",
            f"{kills} times, the process of one stage was killed (SIGKILL) on one of two servers under load: "
            f"**{len(wrong)} kills out of bounds.** Each kill has its own run of `client/bench.py` with "
            f"{results[0].sent:,} requests, {concurrency} concurrent. A server that ends is started again, as systemd, "
            "Docker and Kubernetes do.",
            "",
            "## Servers",
            "",
            *markdown_rows(
                [
                    "recognizer",
                    "stage",
                    "kills",
                    "not ready after s",
                    "ended after s",
                    "exit code",
                    "ready again after s",
                ],
                [_server_row(each.model, stage, killed) for each in results for stage, killed in _by_stage(each)],
            ),
            "",
            f"Seconds after the kill: median (highest). Bound: not ready after {NOT_READY_SECONDS:g} s. Ready again "
            "includes the pause before the restart and the load of the models.",
            "",
            "## Requests",
            "",
            *markdown_rows(
                ["recognizer", "stage", "requests", "scored", "twice", "failed", "retried", "texts changed", "WER"],
                [row for each in results for row in _request_rows(each)],
            ),
            "",
            "Bounds: each request scored once, no text and no WER other than in the undisturbed run.",
            "",
            *(["Out of bounds:", "", *(f"- {line}" for line in wrong[:_MAX_LINES]), ""] if wrong else []),
            *_example(results),
        ]
    )


def _by_stage(results: ModelKills) -> list[tuple[str, list[StageKill]]]:
    stages = dict.fromkeys(kill.stage for kill in results.kills)
    return [(stage, [kill for kill in results.kills if kill.stage == stage]) for stage in stages]


def _server_row(model: str, stage: str, kills: Sequence[StageKill]) -> list[str]:
    codes = sorted({NONE if kill.code is None else str(kill.code) for kill in kills})
    return [
        model,
        stage,
        str(len(kills)),
        _median_and_highest(kills, lambda kill: kill.not_ready),
        _median_and_highest(kills, lambda kill: kill.ended),
        ", ".join(codes),
        _median_and_highest(kills, lambda kill: kill.ready_again),
    ]


def _median_and_highest(kills: Sequence[StageKill], seconds: Callable[[StageKill], float | None]) -> str:
    values = [value for kill in kills if (value := seconds(kill)) is not None]
    return f"{median(values):.1f} ({max(values):.1f})" if len(values) == len(kills) else "never"


def _request_rows(results: ModelKills) -> list[list[str]]:
    rows = [
        _request_row(results.model, stage, results.sent * len(kills), [kill.requests for kill in kills])
        for stage, kills in _by_stage(results)
    ]
    return [_request_row(results.model, "undisturbed", results.sent, [results.undisturbed]), *rows]


def _request_row(model: str, stage: str, sent: int, runs: Sequence[Requests]) -> list[str]:
    def total(count: Callable[[Requests], int]) -> str:
        return f"{sum(map(count, runs)):,}"

    return [
        model,
        stage,
        f"{sent:,}",
        total(lambda run: run.scored),
        total(lambda run: run.twice),
        total(lambda run: run.failed),
        total(lambda run: run.retried),
        total(lambda run: run.changed),
        ", ".join(sorted({percentage(run.wer, 2) for run in runs})),
    ]


def _example(results: Sequence[ModelKills]) -> list[str]:
    line = next((kill.line for each in results for kill in each.kills if kill.line), None)
    return ["The supervisor prints, for example:", "", "```", f"error: {line}", "```", ""] if line else []
