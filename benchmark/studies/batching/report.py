"""The page of batching methods: a chart and tables."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence

from benchmark.core.tables import NONE, markdown_rows, percentage, spread
from benchmark.reporting.drawing import Chart
from benchmark.studies.batching.sweep import Sweep

MEANINGS = {
    "method": "the first row is what export.py writes by default.",
    "RTFx": "seconds of audio per second, median of the rounds.",
    "our speedup": "time of this method divided by the time of the first row, taken within each round: median (lowest "
    "to highest). Above 1, the first row is faster.",
    "p50 ms": "median latency; '-' if the method gets the whole list of recordings.",
    "p95 ms": "95th percentile of latency.",
    "recordings per batch": "mean batch size of the encoder.",
    "padding": "silence that clients add, relative to the audio.",
    "same text as NeMo": "recordings with the transcript of NeMo's transcribe() at the same load, in every round.",
}
"""Meaning of each column, by heading."""


def markdown(model: str, note: str, sweeps: Sequence[Sweep], chart: Chart) -> str:
    """The Markdown page.

    Args:
        model: Name of the model.
        note: A sentence about the model.
        sweeps: Sweeps of all sets of recordings and loads.
        chart: The chart; its files are in the same folder.
    """
    lines = ["# Which batching method is fastest for recordings of mixed lengths?", ""]
    lines += ["```sh", "make benchmark-batching", "```", "", f"{model}. {note}".strip(), ""]
    lines += [chart.picture(), "", chart.caption, ""]
    lines += [
        f"All methods run in turn on one machine with {len(os.sched_getaffinity(0))} CPU cores, in "
        f"{len(sweeps[0].passes)} rounds.",
        "",
        *(f"- **{heading}**: {meaning}" for heading, meaning in MEANINGS.items()),
        "",
    ]
    for sweep in sweeps:
        measured = (_cells(sweep, method) for method in sweep.padding)
        not_run = ([method, f"not run: {reason}", *[""] * 6] for method, reason in sweep.not_run.items())
        lines += [
            f"## {sweep.title}",
            "",
            f"{sweep.recordings} recordings, {sweep.audio_seconds / 60:.1f} minutes.",
            "",
            *markdown_rows(list(MEANINGS), [*measured, *not_run]),
            "",
        ]
    return "\n".join(lines)


def _cells(sweep: Sweep, method: str) -> list[str]:
    batches = [measured[method].mean_batch for measured in sweep.passes]
    known = [batch for batch in batches if batch is not None]
    equal = sweep.equal_texts(method)
    return [
        method,
        f"{statistics.median(sweep.rates(method)):.0f}",
        "" if method == sweep.ours else spread(sweep.speedups(method), 2),
        *(_milliseconds(sweep.latency(method, rank)) for rank in (50, 95)),
        f"{statistics.median(known):.1f}" if known else NONE,
        percentage(sweep.padding[method], 0),
        NONE if equal is None else f"{equal}/{sweep.recordings}",
    ]


def _milliseconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{1000 * seconds:.0f}"
