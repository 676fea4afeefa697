"""The page of batching methods: tables and a chart."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.baselines.system import Measured
from benchmark.core.tables import NONE, markdown_rows, percentage, spread

NEMO = "NeMo's transcribe()"
"""The method whose transcripts are the reference for the others."""
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


@dataclass(frozen=True)
class Sweep:
    """All methods on one set of recordings, at one load.

    Attributes:
        speech: Name of the recordings.
        recordings: Number of recordings.
        audio_seconds: Total duration of the recordings.
        concurrency: Concurrent requests.
        padding: Silence that clients add, relative to the audio, by method; the first method is ours.
        passes: Passes, one per round, each by method.
        not_run: Reasons of methods that were not measured.
    """

    speech: str
    recordings: int
    audio_seconds: float
    concurrency: int
    padding: dict[str, float | None]
    passes: list[dict[str, Measured]]
    not_run: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """The first method."""
        return next(iter(self.padding))

    @property
    def title(self) -> str:
        """Recordings and load."""
        return f"{self.speech}: {concurrent_requests(self.concurrency)}"

    def rates(self, method: str) -> list[float]:
        """RTFx of each round."""
        return [self.audio_seconds / measured[method].seconds for measured in self.passes]

    def speedups(self, method: str) -> list[float]:
        """Speedup of our method over `method` in each round."""
        return [measured[method].seconds / measured[self.ours].seconds for measured in self.passes]

    def latency(self, method: str, rank: int) -> float | None:
        """A percentile of the latencies of all rounds, in seconds; None if the method has none."""
        latencies = [latency for measured in self.passes for latency in measured[method].latencies]
        return float(np.percentile(latencies, rank)) if latencies else None

    def equal_texts(self, method: str) -> int | None:
        """Number of recordings with NeMo's transcript in every round; None if NeMo is not measured."""
        if NEMO not in self.padding:
            return None
        return sum(
            all(measured[method].texts[audio] == text for measured in self.passes)
            for audio, text in self.passes[0][NEMO].texts.items()
        )


def concurrent_requests(concurrency: int) -> str:
    """The load in words."""
    return "one request at a time" if concurrency == 1 else f"{concurrency} concurrent requests"


def markdown(model: str, note: str, sweeps: Sequence[Sweep], chart_name: str) -> str:
    """The Markdown page.

    Args:
        model: Name of the model.
        note: A sentence about the model.
        sweeps: Sweeps of all sets of recordings and loads.
        chart_name: File name of the chart, next to the page.
    """
    lines = ["# Which batching method is fastest for recordings of mixed lengths?", ""]
    lines += ["```sh", "make benchmark-batching", "```", "", f"{model}. {note}".strip(), ""]
    lines += [f"![RTFx of each batching method]({chart_name})", ""]
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


def chart(sweeps: Sequence[Sweep], file: Path) -> None:
    """Draw RTFx by method, one panel per set of recordings and load. Error bars show the range of the rounds."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    methods = list(sweeps[0].padding)
    rows = -(-len(sweeps) // 2)
    plt.rcParams["svg.fonttype"] = "none"
    # Without a date and random ids, the same figures give the same file.
    plt.rcParams["svg.hashsalt"] = "batching"
    figure, grid = plt.subplots(
        rows, min(len(sweeps), 2), figsize=(9, 0.6 + 2.4 * rows), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    figure.suptitle("Which batching method is fastest for recordings of mixed lengths?")
    for axes, sweep in zip(grid.flat, sweeps, strict=False):
        rates = [sweep.rates(method) for method in methods]
        medians = [statistics.median(values) for values in rates]
        errors = [
            [median - min(values) for median, values in zip(medians, rates, strict=True)],
            [max(values) - median for median, values in zip(medians, rates, strict=True)],
        ]
        colors = ["C0" if method == sweep.ours else "0.75" for method in methods]
        axes.barh(methods, medians, xerr=errors, capsize=2, color=colors, ecolor="0.3")
        for number, (median, values) in enumerate(zip(medians, rates, strict=True)):
            end = (max(values), number)
            axes.annotate(f"{median:.0f}", end, (5, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_title(sweep.title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0][0].invert_yaxis()
    for axes in grid.flat[len(sweeps) :]:
        axes.set_visible(False)
    figure.supxlabel("RTFx: seconds of audio per second (more is faster; lines: lowest to highest round)", fontsize=10)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
