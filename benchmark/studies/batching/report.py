"""Table and chart of the ways to batch."""

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
"""The way whose texts are held to be right."""
HEADINGS = ("way", "RTFx", "ours is", "p50 ms", "p95 ms", "recordings a batch", "padding", "texts")


@dataclass(frozen=True)
class Sweep:
    """One set of recordings by all ways, so many at a time.

    audio_seconds: of all recordings together
    padding: of each way, the share of silence added; the first way is ours
    passes: a round each, by way
    not_run: of each way that isn't measured, why
    """

    speech: str
    recordings: int
    audio_seconds: float
    at_once: int
    padding: dict[str, float | None]
    passes: list[dict[str, Measured]]
    not_run: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """The first way."""
        return next(iter(self.padding))

    def rtfx(self, way: str) -> float:
        """Seconds of audio a second, the median of all rounds."""
        return statistics.median(self.audio_seconds / measured[way].seconds for measured in self.passes)

    def ratios(self, way: str) -> list[float]:
        """How many times as fast as that way ours is, round by round."""
        return [measured[way].seconds / measured[self.ours].seconds for measured in self.passes]

    def latency(self, way: str, rank: int) -> float | None:
        """A percentile of all rounds' latencies, in seconds."""
        latencies = [latency for measured in self.passes for latency in measured[way].latencies]
        return float(np.percentile(latencies, rank)) if latencies else None

    def equal_texts(self, way: str) -> int | None:
        """Recordings with NeMo's text in every round; None where NeMo isn't measured."""
        if NEMO not in self.padding:
            return None
        return sum(
            all(measured[way].texts[audio] == text for measured in self.passes)
            for audio, text in self.passes[0][NEMO].texts.items()
        )


def markdown(model: str, note: str, sweeps: Sequence[Sweep], chart_name: str) -> str:
    """The Markdown page.

    Args:
        model: name
        note: a sentence about the model
        sweeps: of all sets of recordings and loads
        chart_name: the chart's file, beside the page
    """
    lines = ["# Recordings of mixed lengths: ways to batch them", "", f"{model}. {note}".strip(), ""]
    lines += [
        f"All ways in turn on one machine, on {len(os.sched_getaffinity(0))} CPU cores, medians of "
        f"{len(sweeps[0].passes)} rounds. RTFx: seconds of audio a second. 'Ours is' says how many times as fast the "
        "first way is, taken round by round, with the lowest and the highest. Padding: silence that clients add. "
        "Texts: of how many recordings it is that of NeMo's transcribe() at the same load, in every round.",
        "",
        f"![RTFx by way]({chart_name})",
        "",
    ]
    for sweep in sweeps:
        measured = (_cells(sweep, way) for way in sweep.padding)
        not_run = ([way, f"not run: {reason}", *[""] * 6] for way, reason in sweep.not_run.items())
        lines += [
            f"## {sweep.speech}, {sweep.at_once} at once",
            "",
            f"{sweep.recordings} recordings, {sweep.audio_seconds / 60:.1f} minutes.",
            "",
            *markdown_rows(HEADINGS, [*measured, *not_run]),
            "",
        ]
    return "\n".join(lines)


def _cells(sweep: Sweep, way: str) -> list[str]:
    ratios, padding = sweep.ratios(way), sweep.padding[way]
    batches = [measured[way].mean_batch for measured in sweep.passes]
    known = [batch for batch in batches if batch is not None]
    equal = sweep.equal_texts(way)
    return [
        way,
        f"{sweep.rtfx(way):.0f}",
        "" if way == sweep.ours else spread(ratios, 2),
        *(_milliseconds(sweep.latency(way, rank)) for rank in (50, 95)),
        f"{statistics.median(known):.1f}" if known else NONE,
        percentage(padding, 0),
        NONE if equal is None else f"{equal}/{sweep.recordings}",
    ]


def _milliseconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{1000 * seconds:.0f}"


def chart(sweeps: Sequence[Sweep], file: Path) -> None:
    """RTFx by way, a group of bars for each set and load, with the range of the rounds."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    ways = list(sweeps[0].padding)
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    width = 0.8 / len(ways)
    for number, way in enumerate(ways):
        heights = [sweep.rtfx(way) for sweep in sweeps]
        spread = [[sweep.audio_seconds / measured[way].seconds for measured in sweep.passes] for sweep in sweeps]
        errors = [
            [height - min(rates) for height, rates in zip(heights, spread, strict=True)],
            [max(rates) - height for height, rates in zip(heights, spread, strict=True)],
        ]
        places = [place + (number - (len(ways) - 1) / 2) * width for place in range(len(sweeps))]
        axes.bar(places, heights, width, yerr=errors, capsize=2, label=way)
    axes.set_xticks(range(len(sweeps)), [f"{sweep.speech},\n{sweep.at_once} at once" for sweep in sweeps])
    axes.set_ylabel("RTFx: seconds of audio a second")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    # Without a date and random ids, the same figures are the same file.
    plt.rcParams["svg.hashsalt"] = "batching"
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
