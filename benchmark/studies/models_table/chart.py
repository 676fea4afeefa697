"""The chart "which model should I take?": published word error rate against measured speed, one file per theme."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmark.studies.models_table.choice import Candidate, pareto_front
from benchmark.studies.models_table.labels import Box, Point, place_labels

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
SIZE_INCHES = (8.0, 8.6)
TEXT_POINTS = 14.5
"""Readable at 400 pixels, where a point is 0.7 pixels."""
AREA_PER_MILLION = 4.5
"""Square points of a circle per million parameters."""
TICKS = [step * 10**power for power in range(-1, 5) for step in (1, 2, 5)]


@dataclass(frozen=True)
class Theme:
    """Colours of one theme.

    Attributes:
        name: Name in the file's name.
        text: Colour of text.
        faint: Colour of less important text and lines.
        grid: Colour of the grid.
        families: Colours of the families, safe for colour-blind readers (Okabe and Ito).
    """

    name: str
    text: str
    faint: str
    grid: str
    families: tuple[str, ...]


THEMES = (
    Theme(
        "light",
        text="#1f2328",
        faint="#59636e",
        grid="#d1d9e0",
        families=("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a8a00", "#6b6b6b"),
    ),
    Theme(
        "dark",
        text="#f0f6fc",
        faint="#9198a1",
        grid="#3d444d",
        families=("#3d9be0", "#e69f00", "#00b98a", "#f07030", "#dd8fba", "#8fd3ff", "#d6d046", "#a0a0a0"),
    ),
)


def draw(models: Sequence[Candidate], processor: str, theme: Theme) -> str:
    """Draw the chart as SVG.

    Args:
        models: Points of the chart; at least one.
        processor: Processor on which the speed was measured.
        theme: Colours of the chart.
    """
    # The fonts of a reader's system are not known here; DejaVu Sans is wider than most of them.
    with matplotlib.rc_context({"font.size": TEXT_POINTS, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=SIZE_INCHES)
        canvas: Any = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.095, 0.215, 0.89, 0.77))
        _axes(axes, models, processor, theme)
        front = pareto_front(models)
        axes.plot(
            [model.speed for model in front],
            [model.error for model in front],
            color=theme.faint,
            linewidth=1.5,
            linestyle=(0, (4, 3)),
            zorder=1,
        )
        families = list(dict.fromkeys(model.family_title for model in models))
        colours = dict(zip(families, theme.families * len(families), strict=False))
        # Large circles below small ones.
        for model in sorted(models, key=lambda model: -model.parameters):
            axes.scatter(
                model.speed,
                model.error,
                s=_area(model),
                color=colours[model.family_title],
                edgecolor=theme.text,
                linewidth=0.6,
                alpha=0.85,
                zorder=2,
            )
        _names(axes, canvas.get_renderer(), models, front, theme)
        _legend(figure, colours, theme)
        return _svg(figure, theme)


def _area(model: Candidate) -> float:
    return AREA_PER_MILLION * model.parameters / 1e6


def _axes(axes: Axes, models: Sequence[Candidate], processor: str, theme: Theme) -> None:
    speeds, errors = [model.speed for model in models], [model.error for model in models]
    axes.set_xscale("log")
    axes.set_xlim(min(speeds) / 1.45, max(speeds) * 1.45)
    axes.set_ylim(max(min(errors) - 1.4, 0), max(errors) + 0.8)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.faint)
    axes.tick_params(colors=theme.text, length=0, pad=6)
    axes.set_xlabel(f"RTFx: seconds of audio per second, {processor}", color=theme.text, labelpad=6)
    axes.set_ylabel("published WER, LibriSpeech other, %", color=theme.text, labelpad=6)


def _names(
    axes: Axes, renderer: RendererAgg, models: Sequence[Candidate], front: Sequence[Candidate], theme: Theme
) -> None:
    """Write each name next to its point, with a line to the point if the name is further away."""
    pixels = renderer.dpi / 72
    texts = [axes.text(0, 0, model.label, color=theme.text, ha="center", va="center") for model in models]
    points = []
    for model, text in zip(models, texts, strict=True):
        x, y = axes.transData.transform((model.speed, model.error))
        extent = text.get_window_extent(renderer)
        radius = (_area(model) / 3.1416) ** 0.5 * pixels
        points.append(Point(x, y, radius, extent.width, extent.height * 0.85))
    window = axes.get_window_extent(renderer)
    line = [tuple(axes.transData.transform((model.speed, model.error))) for model in front]
    places = place_labels(points, Box(window.x0, window.y0, window.x1, window.y1), line)
    to_data = axes.transData.inverted()
    for text, place in zip(texts, places, strict=True):
        x, y = to_data.transform((place.x, place.y))
        text.set_position((float(x), float(y)))
        if place.leader:
            axes.plot(*to_data.transform(place.leader).T, color=theme.faint, linewidth=0.9, zorder=3)


def _legend(figure: Figure, colours: dict[str, str], theme: Theme) -> None:
    handles = [
        Line2D([], [], marker="o", markersize=10, linestyle="", color=colour, label=family)
        for family, colour in colours.items()
    ]
    handles.append(Line2D([], [], color=theme.faint, linewidth=1.5, linestyle=(0, (4, 3)), label="Pareto front"))
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.52, 0.0),
        ncols=3,
        frameon=False,
        labelcolor=theme.text,
        handletextpad=0.3,
        columnspacing=1.0,
        handlelength=1.4,
    )


def _svg(figure: Figure, theme: Theme) -> str:
    """The figure as SVG with text elements; the same figures give the same bytes."""
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": theme.name, "svg.fonttype": "none"}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(drawn, format="svg", transparent=True, metadata=metadata)
    text = re.sub(r"'?DejaVu Sans'?(, [^;\"]*)?(?=[;\"])", FONT.replace('"', "'"), drawn.getvalue())
    return re.sub(r"<!--.*?-->|(?<=\n)[ ]+", "", text, flags=re.DOTALL)
