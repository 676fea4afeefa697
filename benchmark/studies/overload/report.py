"""The page of the overload study."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.core.tables import NONE, markdown_rows, percentage, spread
from benchmark.studies.overload.measure import Measured, Overload

MEANINGS = {
    "setting": "the first row is what export.py writes by default. Requests are not sent again if they are refused, "
    "except by clients that wait (`bench.py --wait-for-room`, `nemo_triton.Recognizer`). Two encoders have half of the "
    "cores each.",
    "batch, queue": "most requests in the encoder's batches, and in its queue.",
    "capacity": "requests per second of a closed loop, mean of one before and one after the overload.",
    "useful": "requests answered in time per second under overload, divided by the capacity of the round.",
    "p95 of answers": "95th percentile of the latency of answered requests, in seconds.",
    "bound": "seconds for the batch that runs and a full queue, at capacity. Batches of long recordings take longer.",
    "refused": "requests that the full queue refused, or that found no room before their deadline.",
    "p95 of refusals": "95th percentile of the time to a refusal, in milliseconds.",
    "lost": "requests without an answer at their deadline.",
    "first request afterwards": "seconds, and how much longer than a single request before the load.",
}
"""Meaning of each column, by heading."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What fits an encoder.

    Attributes:
        batch: Most requests in the running batches.
        queue: Most requests in the queue; 0 is unlimited.
    """

    batch: int
    queue: int


def markdown(
    model: str,
    note: str,
    overload: Overload,
    rounds: Sequence[Mapping[str, Measured]],
    limits: Mapping[str, Limits],
) -> str:
    """The Markdown page.

    Args:
        model: Name of the recognizer.
        note: A sentence about the model.
        overload: The loads.
        rounds: Measurements by setting, of each round.
        limits: What fits the encoder, by setting.
    """
    rows = [_cells(name, [measured[name] for measured in rounds], limits[name]) for name in rounds[0]]
    lines = [
        "# What happens under overload?",
        "",
        "```sh",
        "make benchmark-overload",
        "```",
        "",
        f"{model}. {note}".strip(),
        "",
        f"Requests arrive at random times at {overload.factor:g} times the capacity for {overload.seconds:g} s, each "
        f"with a deadline of {overload.deadline:g} s. {len(os.sched_getaffinity(0))} CPU cores, shared by "
        f"server and clients; {len(rounds)} rounds, each of which runs all rows in turn. Cells are medians "
        "(lowest to highest).",
        "",
        *(f"- **{heading}**: {meaning}" for heading, meaning in MEANINGS.items()),
        "",
        *markdown_rows(list(MEANINGS), rows),
        "",
    ]
    return "\n".join(lines)


def _cells(name: str, measured: Sequence[Measured], limits: Limits) -> list[str]:
    sent = sum(run.sent for run in measured)

    def seconds(values: Sequence[float | None], digits: int, factor: float = 1) -> str:
        known = [factor * value for value in values if value is not None]
        return spread(known, digits) if known else NONE

    longer = [run.afterwards - run.normal for run in measured]
    accepted = limits.batch + limits.queue
    return [
        name,
        f"{limits.batch}, {limits.queue or 'unlimited'}",
        spread([run.capacity for run in measured], 1),
        spread([run.useful for run in measured], 2),
        seconds([run.accepted_p95 for run in measured], 2),
        spread([accepted / run.capacity for run in measured], 2) if limits.queue else NONE,
        percentage(sum(run.refused for run in measured) / sent, 0),
        seconds([run.refusal_p95 for run in measured], 0, 1000),
        percentage(sum(run.lost for run in measured) / sent, 0),
        f"{spread([run.afterwards for run in measured], 2)}; {spread(longer, 2)} longer",
    ]
