"""What a killed process cost, and whether that is within bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_READY_SECONDS = 5.0
"""Longest time from the kill until the server is not ready any more."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """The responses of one bench.py run.

    Attributes:
        scored: Requests with a text.
        missing: Requests without a response.
        twice: Requests with more than one response.
        failed: Requests that failed.
        changed: Texts that differ from those of the undisturbed run.
        retried: Requests that were sent more than once.
        wer: Word error rate of the run; None if the recordings have no reference texts.
        seconds: Duration of the load.
    """

    scored: int
    missing: int
    twice: int
    failed: int
    changed: int
    retried: int
    wer: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class StageKill:
    """A killed process of a stage, and what followed. Times are in seconds from the kill.

    Attributes:
        stage: Name of the stage.
        not_ready: Time until /v2/health/ready did not have status 200; None if it always had.
        ended: Time until the supervisor ended; None if it did not.
        ready_again: Time until the restarted server was ready; None if it was not.
        code: Exit code of the supervisor; None if it did not end.
        line: Error line of the supervisor; empty if it printed none.
        requests: The requests to both servers.
    """

    stage: str
    not_ready: float | None
    ended: float | None
    ready_again: float | None
    code: int | None
    line: str
    requests: Requests


def count_requests(
    responses: Sequence[Mapping[str, Any]], figures: Mapping[str, Any], *, sent: int, texts: Mapping[str, str]
) -> Requests:
    """Count the responses of a run.

    Args:
        responses: Rows that bench.py wrote with --rows.
        figures: bench.py's JSON.
        sent: Number of requests in the run.
        texts: Text of each audio file in the undisturbed run.
    """
    times = Counter(response["number"] for response in responses)
    answers = [response for response in responses if response["error"] is None]
    return Requests(
        scored=len({answer["number"] for answer in answers}),
        missing=len(set(range(sent)) - times.keys()),
        twice=sum(count > 1 for count in times.values()),
        failed=len(responses) - len(answers),
        changed=sum(answer["text"] != texts.get(answer["audio"]) for answer in answers),
        retried=sum(response["attempts"] > 1 for response in responses),
        wer=figures["wer"],
        seconds=sum(load["wall_seconds"] for load in figures["loads"]),
    )


def problems(kill: StageKill, undisturbed: Requests, sent: int) -> list[str]:
    """What is out of bounds, one phrase each; empty if nothing is.

    Args:
        kill: The kill and what followed.
        undisturbed: The run without a kill.
        sent: Number of requests in each run.
    """
    requests = kill.requests
    wrong = {
        f"ready for more than {NOT_READY_SECONDS:g} s": kill.not_ready is None or kill.not_ready > NOT_READY_SECONDS,
        "the server did not end": kill.code is None,
        "exit code 0": kill.code == 0,
        "the error line names neither stage nor signal": kill.stage not in kill.line or "SIGKILL" not in kill.line,
        "the server was not ready again": kill.ready_again is None,
        f"{requests.scored} of {sent} requests scored": requests.scored != sent,
        f"{requests.missing} requests without a response": requests.missing > 0,
        f"{requests.twice} requests with two responses": requests.twice > 0,
        f"{requests.failed} requests failed": requests.failed > 0,
        f"{requests.changed} texts changed": requests.changed > 0,
        f"word error rate {requests.wer}, undisturbed {undisturbed.wer}": requests.wer != undisturbed.wer,
    }
    return [problem for problem, holds in wrong.items() if holds]
