"""The report's charts, each one SVG, drawn from the report's values alone."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.core.loads import compared_load
from nemo_triton.contract import AUDIO_STAGE, Part

Json = dict[str, Any]

MARKERS = "osD^vPX*<>hp"
STAGES = ("audio", "features", "encoder", "decoder", "text")
PART_STAGES = {Part.ENCODER: "encoder", Part.DECODER: "decoder", Part.TEXT: "text"}
"""What the steps of one recognizer only do; all others are features, by whatever name."""
PUBLISHED_SET = "test-clean/other"
COLUMNS = 4
FONTS = ["DejaVu Sans", "Verdana", "Arial"]
PARTS = (("queue", 0.35), ("compute", 1.0))
"""What a stage's bar is made of, and how opaque each part is drawn."""


def all_charts(report: Json) -> dict[str, tuple[str, str]]:
    """By file name: the title and the SVG. A chart without anything to show is left out."""
    drawers: dict[str, tuple[str, Callable[[Json], Figure | None]]] = {
        "wer_rtfx": ("Word error rate against speed", error_and_speed),
        "size_wer": ("Size against word error rate", size_and_error),
        "latency_load": ("Latency against offered load", latency_and_load),
        "batch_sizes": ("Batch sizes of the encoder", batch_sizes),
        "stage_times": ("Time by stage", stage_times),
    }
    charts = {}
    for name, (title, draw) in drawers.items():
        figure = draw(report)
        if figure is not None:
            charts[name] = (title, _svg(figure, name))
    return charts


def error_and_speed(report: Json) -> Figure | None:
    """Systems that were measured side by side, by run, with the Pareto front of each."""
    points: dict[str, list[tuple[float, float, str]]] = {}
    for compared in report["comparisons"]:
        scored = [system for system in compared["systems"] if system["wer"] is not None]
        if len(scored) > 1:
            # A panel for each run: speeds of different runs can't be compared.
            title = f"{compared['model']} and others, {compared['dataset']['name']}"
            points[title] = [(system["rtfx"], 100 * system["wer"], system["name"]) for system in scored]
    if not points:
        return None
    figure, axes = _grid(len(points), columns=2, height=4.2)
    for panel, (title, systems) in zip(axes, points.items(), strict=False):
        for number, (speed, error, name) in enumerate(systems):
            panel.plot(speed, error, MARKERS[number % len(MARKERS)], label=name)
        front = pareto_front([(speed, error) for speed, error, _ in systems])
        panel.plot(*zip(*front, strict=True), color="0.5", linewidth=1, zorder=0, label="Pareto front")
        panel.set(title=title, xlabel="RTFx, seconds of audio a second", ylabel="WER, %", xscale="log")
        # Linear below 1 %, so that it has a zero; baselines with a model of their own may be far above.
        panel.set_yscale("symlog", linthresh=1)
        panel.set_ylim(0, max(2 * max(error for _, error, _ in systems), 1))
        panel.legend(frameon=False, fontsize=7)
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (speed, error) that no other beats in both, by falling speed."""
    front: list[tuple[float, float]] = []
    for speed, error in sorted(points, key=lambda point: (-point[0], point[1])):
        if not front or error < front[-1][1]:
            front.append((speed, error))
    return front


def size_and_error(report: Json) -> Figure | None:
    """What was measured here, and beside it what NVIDIA published."""
    measured = [model for model in report["models"] if model.get("wer") is not None]
    published = [
        model for model in report["models"] if model["published"] and model["published"]["measured_on"] == PUBLISHED_SET
    ]
    if not measured:
        return None
    figure, (ours, theirs) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for number, model in enumerate(measured):
        label = f"{model['model']}, {model['dataset']}"
        ours.plot(model["onnx_bytes"] / 1e6, 100 * model["wer"], MARKERS[number % len(MARKERS)], label=label)
    ours.set(title="measured here", xlabel="ONNX, MB", ylabel="WER, %")
    ours.set_ylim(bottom=0)
    ours.set_xlim(left=0)
    families = sorted({model["family"] for model in published})
    for number, family in enumerate(families):
        rows = [
            model["published"] for model in {m["model"]: m for m in published}.values() if model["family"] == family
        ]
        sizes = [4 * row["million_parameters"] for row in rows]
        theirs.plot(sizes, [row["wer_percent"][1] for row in rows], MARKERS[number], label=family)
    theirs.set(title="published by NVIDIA, LibriSpeech test-other", xlabel="parameters, MB as float32", ylabel="WER, %")
    theirs.set_ylim(bottom=0)
    for panel in (ours, theirs):
        panel.legend(frameon=False, fontsize=7)
        _bare(panel)
    return figure


def latency_and_load(report: Json) -> Figure | None:
    """A panel for each model and data set: percentiles over the offered rate."""
    runs = [run for run in report["served"] if run["open"]]
    if not runs:
        return None
    figure, axes = _grid(len(runs), COLUMNS, height=2.6)
    for panel, run in zip(axes, runs, strict=False):
        loads = sorted((load for load in run["open"] if load["latency_ms"]), key=lambda load: load["load"]["rate"])
        rates = [load["load"]["rate"] for load in loads]
        for name in ("p50", "p95", "p99"):
            panel.plot(rates, [load["latency_ms"][name] for load in loads], ".-", label=name)
        knees = [load["load"]["rate"] for load in loads if load["name"] == run["knee"]]
        for rate in knees:
            panel.axvline(rate, color="0.6", linestyle=":", label="knee")
        panel.set_title(f"{run['model']}, {run['dataset']['name']}", fontsize=8)
        panel.set(xlabel="requests/s offered", ylabel="latency, ms", yscale="log")
    axes[0].legend(frameon=False, fontsize=7)
    return figure


def batch_sizes(report: Json) -> Figure | None:
    """A bar for each model: the share of requests that the encoder took in batches of each size."""
    bars = []
    for run in report["served"]:
        encoders = [step for step in compared_load(run["closed"])["steps"] if stage_of(step["model"]) == "encoder"]
        if encoders:
            sizes = {int(size): count for size, count in encoders[0]["batch_sizes"].items()}
            bars.append((f"{run['model']}, {run['dataset']['name']}", sizes))
    if not bars:
        return None
    largest = max(size for _, sizes in bars for size in sizes)
    colours = matplotlib.colormaps["viridis"]
    figure, axes = plt.subplots(figsize=(9, 0.45 * len(bars) + 1.4), layout="constrained")
    for place, (_, sizes) in enumerate(bars):
        requests, left = sum(size * count for size, count in sizes.items()), 0.0
        for size, count in sorted(sizes.items()):
            share = size * count / requests
            axes.barh(place, share, left=left, color=colours(size / largest), edgecolor="white", linewidth=0.5)
            if share > 0.04:
                axes.text(left + share / 2, place, str(size), ha="center", va="center", fontsize=7, color="white")
            left += share
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="share of requests, by the size of the batch that the encoder took them in", xlim=(0, 1))
    _bare(axes)
    return figure


def stage_times(report: Json) -> Figure | None:
    """A bar for each model: a request's mean time in each stage's queue and computation."""
    bars = [
        (f"{run['model']}, {run['dataset']['name']}", compared_load(run["closed"])["steps"]) for run in report["served"]
    ]
    bars = [(name, steps) for name, steps in bars if steps]
    if not bars:
        return None
    colours = dict(zip(STAGES, ("C7", "C0", "C1", "C2", "C3"), strict=True))
    figure, axes = plt.subplots(figsize=(9, 0.45 * len(bars) + 1.6), layout="constrained")
    for place, (_, steps) in enumerate(bars):
        left = 0.0
        for step in steps:
            stage = stage_of(step["model"])
            computed = step["input_ms"] + step["infer_ms"] + step["output_ms"]
            for (part, opacity), width in zip(PARTS, (step["queue_ms"], computed), strict=True):
                label = f"{stage}, {part}" if place == 0 else None
                axes.barh(place, width, left=left, color=colours[stage], alpha=opacity, label=label)
                left += width
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="ms of a request, mean")
    axes.legend(frameon=False, fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    _bare(axes)
    return figure


def stage_of(model: str) -> str:
    """What a step does, by the name that export gives it."""
    if model == AUDIO_STAGE:
        return "audio"
    return next((stage for part, stage in PART_STAGES.items() if model.endswith(part.value)), "features")


def _grid(panels: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """So many panels in rows; those beyond are removed."""
    columns = min(columns, panels)
    rows = math.ceil(panels / columns)
    figure, grid = plt.subplots(rows, columns, figsize=(11, height * rows), squeeze=False, layout="constrained")
    axes = list(grid.flat)
    for panel in axes[panels:]:
        panel.remove()
    for panel in axes[:panels]:
        _bare(panel)
    return figure, axes[:panels]


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element that a page can hold."""
    drawn = io.StringIO()
    # Ids differ between charts of one page, and without random ones the same figures are the same text.
    # Letters are text in one of few fonts: as paths they would be most of the file.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.sans-serif": FONTS}):
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    plt.close(figure)
    text = drawn.getvalue()
    return re.sub(r"<!--.*?-->|(?<=\n)[ ]+", "", text[text.index("<svg") :], flags=re.DOTALL)
