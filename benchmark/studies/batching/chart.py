"""The chart of batching methods: RTFx of each, one panel per set of recordings and load."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from matplotlib import rc_context

from benchmark.reporting.drawing import MODEL_COLOURS, OTHERS, STYLE, Chart, draw_bar, new_figure, to_svg
from benchmark.studies.batching.sweep import Sweep

INCHES_PER_METHOD = 0.27


def chart(sweeps: Sequence[Sweep], name: str) -> Chart:
    """Draw RTFx by method, our method in colour. Whiskers show the range of the rounds.

    Args:
        sweeps: Sweeps of all sets of recordings and loads.
        name: Stem of the chart's files.
    """
    question = "Which batching method is fastest?"
    with rc_context(STYLE):
        heights = [INCHES_PER_METHOD * len(sweep.padding) + 0.4 for sweep in sweeps]
        figure, panels = new_figure(len(sweeps), heights, question)
        fastest = max(rate for sweep in sweeps for method in sweep.padding for rate in sweep.rates(method))
        for panel, sweep in zip(panels, sweeps, strict=True):
            for place, method in enumerate(sweep.padding):
                rates = sweep.rates(method)
                median = statistics.median(rates)
                colour = MODEL_COLOURS[0] if method == sweep.ours else OTHERS
                draw_bar(panel, place, median, min(rates), max(rates), colour=colour, text=f"{median:.0f}")
            panel.set_yticks(range(len(sweep.padding)), list(sweep.padding))
            panel.set_xlim(0, 1.15 * fastest)
            panel.invert_yaxis()
            panel.grid(axis="y", visible=False)
            panel.tick_params(axis="y", length=0)
            panel.set_title(sweep.title)
        panels[-1].set_xlabel("RTFx: seconds of audio per second")
        svg = to_svg(figure, name)
    rounds = len(sweeps[0].passes)
    caption = f"Longer is faster. Median of {rounds} rounds; whiskers: the lowest and the highest round."
    return Chart(name, question, caption, svg)
