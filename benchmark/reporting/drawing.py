"""Style of charts: colours for light and dark pages, plain axes, labels that don't overlap, SVG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

WIDTH = 5.2
"""Inches: 374 points, so that a phone shows the letters at their own size."""
FONT_POINTS = 11.0
NARROW_RANGE = 5.0
"""Values that differ by at most this factor get a linear axis from zero, others a logarithmic one."""
MOST_TICKS = 6
"""Largest number of ticks on a logarithmic axis."""

BACKGROUND = "#ffffff"
TEXT = "#24292f"
MUTED = "#6e7781"
GRID = "#d8dee4"
QUEUE = "#d0d7de"
OTHERS = "#a3acb5"
"""Bars of systems that are not ours."""
ON_DARK_BAR = "#fefefe"
ON_LIGHT_BAR = "#1f2328"
"""Text on bars, the same on light and dark pages."""
MODEL_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a8488f", "#b8860b", "#3f9fd1", "#7f4f24", "#5c6670")
"""Colours of the models, in their order; distinct for people with any kind of colour blindness."""
STAGE_COLOURS = {
    "audio": "#8c959f",
    "features": "#b2abd2",
    "encoder": "#5e3c99",
    "decoder": "#fdb863",
    "text": "#80cdc1",
}

DARK: Mapping[str, str] = {
    BACKGROUND: "#0d1117",
    TEXT: "#e6edf3",
    MUTED: "#9aa4af",
    GRID: "#30363d",
    QUEUE: "#444c56",
    OTHERS: "#6e7681",
    ON_DARK_BAR: ON_DARK_BAR,
    ON_LIGHT_BAR: ON_LIGHT_BAR,
    **dict(
        zip(
            MODEL_COLOURS,
            ("#58a6e0", "#ff9548", "#35c796", "#e58fc8", "#e6b93f", "#8fd0f5", "#c9996b", "#a9b4c0"),
            strict=True,
        )
    ),
    STAGE_COLOURS["audio"]: "#8c959f",
    STAGE_COLOURS["features"]: "#b9b0e6",
    STAGE_COLOURS["encoder"]: "#7e5fc4",
    STAGE_COLOURS["decoder"]: "#fdb863",
    STAGE_COLOURS["text"]: "#80cdc1",
}
"""Each colour of a chart on a light page, and the one that replaces it on a dark page."""

LABEL_SIDES: tuple[tuple[Literal["left", "center", "right"], Literal["bottom", "center", "top"]], ...] = (
    ("left", "center"),
    ("right", "center"),
    ("center", "bottom"),
    ("center", "top"),
    ("left", "bottom"),
    ("right", "bottom"),
    ("left", "top"),
    ("right", "top"),
)
"""Alignments of a label next to its point, the preferred ones first."""
LABEL_DISTANCES = (2, 8, 16, 26)
"""Points between a marker and its label."""

FONTS = ["DejaVu Sans", "Verdana", "Arial"]
STYLE: dict[Any, Any] = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": BACKGROUND,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": FONT_POINTS,
    "figure.facecolor": BACKGROUND,
    "font.sans-serif": FONTS,
    "font.size": FONT_POINTS,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": FONT_POINTS,
    "legend.frameon": False,
    "savefig.facecolor": BACKGROUND,
    "text.color": TEXT,
    "xtick.color": MUTED,
    "xtick.labelcolor": TEXT,
    "ytick.color": MUTED,
    "ytick.labelcolor": TEXT,
    # Letters stay text in one of few fonts: as paths they would be most of the file.
    "svg.fonttype": "none",
}
_COLOUR = re.compile(r"(?<=: )#[0-9a-f]{6}\b")


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        name: Stem of its files.
        question: Question that the chart answers; the title in the picture.
        caption: Text that says what was measured and how to read the chart.
        svg: An element in the colours of a light page.
    """

    name: str
    question: str
    caption: str
    svg: str

    def files(self) -> dict[str, str]:
        """The SVG files of the chart by name, one for light pages and one for dark ones."""
        return {f"{self.name}_light.svg": self.svg + "\n", f"{self.name}_dark.svg": dark(self.svg) + "\n"}

    def picture(self) -> str:
        """The chart as an element of a Markdown page next to its files."""
        return (
            "<picture>\n"
            f'  <source media="(prefers-color-scheme: dark)" srcset="{self.name}_dark.svg">\n'
            f'  <img alt="{self.question}" src="{self.name}_light.svg" width="560">\n'
            "</picture>"
        )


def dark(svg: str) -> str:
    """The SVG in the colours of a dark page."""
    return _COLOUR.sub(lambda match: DARK[match[0]], svg)


def themed(svg: str) -> str:
    """The SVG for an HTML page that has `theme_css`: it follows the reader's colour scheme."""
    return _COLOUR.sub(lambda match: f"var(--{match[0][1:]})", svg)


def theme_css() -> str:
    """Style rules for the colours of `themed` charts."""
    light_rules = " ".join(f"--{colour[1:]}: {colour};" for colour in DARK)
    dark_rules = " ".join(f"--{colour[1:]}: {replaced};" for colour, replaced in DARK.items())
    return f":root {{ {light_rules} }}\n  @media (prefers-color-scheme: dark) {{ :root {{ {dark_rules} }} }}"


def new_figure(
    rows: int, heights: Sequence[float], question: str, *, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with panels one below the other.

    Args:
        rows: Number of panels.
        heights: Height of each panel, in inches.
        question: The title.
        sharey: Whether all panels have the same y-axis.
    """
    size = (WIDTH, sum(heights) + 0.4)
    figure, grid = plt.subplots(
        rows, figsize=size, height_ratios=heights, squeeze=False, layout="constrained", sharey=sharey
    )
    figure.suptitle(question, x=0.01, ha="left", fontsize=FONT_POINTS + 2, fontweight="bold")
    return figure, list(grid.flat)


def ratio_axis(axis: Axis, values: Sequence[float]) -> None:
    """Scale an axis of positive values: linear from zero, or logarithmic if they differ by more than NARROW_RANGE."""
    if max(values) > NARROW_RANGE * min(values):
        log_axis(axis, values)
    elif isinstance(axis, XAxis):
        axis.axes.set_xlim(0, 1.15 * max(values))
    else:
        axis.axes.set_ylim(0, 1.15 * max(values))


def log_axis(axis: Axis, values: Sequence[float], ticks: Sequence[float] = ()) -> None:
    """Scale an axis of positive values logarithmically, with plain numbers at the ticks.

    Args:
        axis: Axis to scale.
        values: Values to show.
        ticks: Positions of the numbers; by default round numbers.
    """
    low, high = min(values) / 1.3, max(values) * 1.6
    axes = axis.axes
    if isinstance(axis, XAxis):
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    axis.set_major_locator(FixedLocator(ticks or _log_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between the limits: 1, 2 and 5 times powers of ten, or fewer if that would be too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(ticks) <= MOST_TICKS:
            break
    return ticks


def draw_bar(axes: Axes, place: float, value: float, low: float, high: float, *, colour: str, text: str) -> None:
    """Draw a horizontal bar with a whisker for its range, and a text after it.

    Args:
        axes: Axes to draw on.
        place: Position on the y-axis.
        value: Length of the bar.
        low: Lower end of the whisker; there is none if it is the upper one.
        high: Upper end.
        colour: Colour of the bar.
        text: What to write at the end.
    """
    axes.barh(place, value, height=0.75, color=colour)
    if high > low:
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], color=TEXT, linewidth=1, capsize=2.5)
    axes.annotate(text, (high, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=FONT_POINTS - 1)


def place_labels(axes: Axes, points: Sequence[tuple[float, float, float, str]]) -> None:
    """Write a name next to each point, where it covers no other name or point if there is such a place.

    Args:
        axes: Axes with their final limits and scales.
        points: Position x and y, radius of the marker in points, and name of each point.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    pixel = figure.dpi / 72
    places = [(*axes.transData.transform((x, y)), radius * pixel) for x, y, radius, _ in points]
    occupied = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y, radius in places]
    frame = axes.get_window_extent()
    for (x, y, radius, name), marker in zip(points, list(occupied), strict=True):
        others = [box for box in occupied if box is not marker]
        label = axes.annotate(name, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=FONT_POINTS - 1)
        costs: list[tuple[float, int, int]] = []
        for distance in LABEL_DISTANCES:
            for number in range(len(LABEL_SIDES)):
                _move(label, number, radius + distance)
                box = label.get_window_extent()
                outside = box.width * box.height - _common_area(box, frame)
                covered = sum(_common_area(box, other) for other in others)
                costs.append((covered + outside + distance, distance, number))
        _, distance, number = min(costs)
        _move(label, number, radius + distance)
        occupied.append(label.get_window_extent())


def _move(label: Annotation, side: int, distance: float) -> None:
    """Put a label next to its point, at a distance in points."""
    horizontal, vertical = LABEL_SIDES[side]
    right = {"left": 1, "center": 0, "right": -1}[horizontal]
    up = {"bottom": 1, "center": 0, "top": -1}[vertical]
    label.set_position((distance * right, distance * up))
    label.set_horizontalalignment(horizontal)
    label.set_verticalalignment(vertical)


def _common_area(box: Bbox, other: Bbox) -> float:
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return float(max(width, 0) * max(height, 0))


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element that a page can hold; the figure is closed."""
    text = io.StringIO()
    # Ids differ between charts of one page; without random ones the same figures give the same text.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    plt.close(figure)
    svg = text.getvalue()
    return re.sub(r"<!--.*?-->|(?<=\n)[ ]+", "", svg[svg.index("<svg") :], flags=re.DOTALL).rstrip()
