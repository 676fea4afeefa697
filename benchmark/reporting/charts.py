"""The report's charts. Each answers one question, from the report's values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmark.baselines.in_process import InProcess
from benchmark.core.constants import NEMO, OURS
from benchmark.reporting.drawing import (
    FONT_POINTS,
    MODEL_COLOURS,
    MUTED,
    ON_DARK_BAR,
    ON_LIGHT_BAR,
    OTHERS,
    QUEUE,
    STAGE_COLOURS,
    STYLE,
    TEXT,
    Chart,
    draw_bar,
    log_axis,
    new_figure,
    place_labels,
    ratio_axis,
    to_svg,
)
from benchmark.reporting.wording import amount, knee_text, load_text
from nemo_triton.contract import Part, is_audio_stage

Json = dict[str, Any]

PART_STAGES = {Part.ENCODER: "encoder", Part.DECODER: "decoder", Part.TEXT: "text"}
"""Stages that belong to one recognizer, by the end of their names; every other stage but audio computes features."""
SMALLEST_FRONT = 3
"""Smallest number of models with a Pareto front."""
CLOSE_LINES = 1.6
"""Lines that end closer than this factor get their names moved apart."""
LARGEST_AREA, SMALLEST_AREA = 400.0, 16.0
"""Square points; the largest model of a chart gets the largest area."""


@dataclass(frozen=True)
class ModelPoint:
    """A model in the chart of accuracy against speed.

    Attributes:
        name: Label of the model.
        rtfx: Seconds of audio per second.
        wer: Percent.
        megabytes: Size of its files, shown as area; None draws a small point.
        colour: Colour, one of drawing.MODEL_COLOURS.
    """

    name: str
    rtfx: float
    wer: float
    megabytes: float | None
    colour: str


@dataclass(frozen=True)
class Bar:
    """A system in the chart of speeds.

    Attributes:
        name: Name of the system.
        value: Median speed.
        low: Speed of the slowest round.
        high: Speed of the fastest round.
    """

    name: str
    value: float
    low: float
    high: float


def all_charts(report: Json) -> list[Chart]:
    """The charts that have something to show."""
    colours = model_colours(report)
    drawers: tuple[Callable[[Json, Mapping[str, str]], Chart | None], ...] = (
        which_model,
        how_much_faster,
        under_load,
        where_time_goes,
    )
    with matplotlib.rc_context(STYLE):
        charts = [draw(report, colours) for draw in drawers]
    return [chart for chart in charts if chart is not None]


def model_colours(report: Json) -> dict[str, str]:
    """One colour per model, the same in all charts."""
    names = dict.fromkeys(row["model"] for row in [*report["models"], *report["comparisons"]])
    return {name: MODEL_COLOURS[number % len(MODEL_COLOURS)] for number, name in enumerate(names)}


def which_model(report: Json, colours: Mapping[str, str]) -> Chart | None:
    """Word error rate against speed, a panel for each data set with two models or more."""
    panels: dict[str, list[ModelPoint]] = {}
    for model in report["models"]:
        if model.get("wer") is not None and model.get("rtfx"):
            size = model["onnx_bytes"] / 1e6 if model.get("onnx_bytes") else None
            point = ModelPoint(model["model"], model["rtfx"], 100 * model["wer"], size, colours[model["model"]])
            panels.setdefault(model["dataset"], []).append(point)
    panels = {dataset: points for dataset, points in panels.items() if len(points) > 1}
    if not panels:
        return None
    question = "Which model should I take?"
    figure, axes = new_figure(len(panels), [3.2] * len(panels), question)
    for panel, (dataset, points) in zip(axes, panels.items(), strict=True):
        draw_models(panel, points, f"WER on {dataset}, %")
    caption = "Lower right is better: fewer errors, more speed."
    if any(point.megabytes for points in panels.values() for point in points):
        caption += " The area of a point shows the size of the ONNX files."
    if any(map(has_front, panels.values())):
        caption += " Line: the models that no other beats in both."
    return _chart("which_model", question, caption, figure)


def draw_models(axes: Axes, points: Sequence[ModelPoint], wer_label: str) -> None:
    """Draw word error rate against speed with names on the points, and the Pareto front of three models or more."""
    areas = _areas(points)
    for point, area in zip(points, areas, strict=True):
        axes.scatter(point.rtfx, point.wer, area, color=point.colour, alpha=0.85, linewidth=0, zorder=3)
    ratio_axis(axes.xaxis, [point.rtfx for point in points])
    axes.set_ylim(0, 1.25 * max(point.wer for point in points) or 1)
    axes.set(xlabel="RTFx, seconds of audio per second", ylabel=wer_label)
    if has_front(points):
        axes.plot(*zip(*_front(points), strict=True), color=MUTED, linewidth=1, zorder=2)
    place_labels(
        axes,
        [(point.rtfx, point.wer, area**0.5 / 2, point.name) for point, area in zip(points, areas, strict=True)],
    )


def has_front(points: Sequence[ModelPoint]) -> bool:
    """Whether the chart of these models has the line of its Pareto front."""
    return len(points) >= SMALLEST_FRONT and len(_front(points)) > 1


def _front(points: Sequence[ModelPoint]) -> list[tuple[float, float]]:
    return pareto_front([(point.rtfx, point.wer) for point in points])


def _areas(points: Sequence[ModelPoint]) -> list[float]:
    """Areas of the points in square points, proportional to the models' sizes."""
    largest = max((point.megabytes or 0 for point in points), default=0)
    if not largest:
        return [4 * SMALLEST_AREA] * len(points)
    return [max(LARGEST_AREA * (point.megabytes or 0) / largest, SMALLEST_AREA) for point in points]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (speed, error) that no other beats in both, by falling speed."""
    front: list[tuple[float, float]] = []
    for speed, error in sorted(points, key=lambda point: (-point[0], point[1])):
        if not front or error < front[-1][1]:
            front.append((speed, error))
    return front


def how_much_faster(report: Json, colours: Mapping[str, str]) -> Chart | None:
    """Bars of the systems in each comparison that run the same weights, relative to NeMo if it ran in all of them."""
    groups: list[tuple[Json, list[Bar]]] = []
    relative = all(any(system["name"] == NEMO for system in row["systems"]) for row in report["comparisons"])
    for compared in report["comparisons"]:
        systems = [
            system for system in compared["systems"] if system["name"] != InProcess.name and not system["own_model"]
        ]
        nemo = next((system["rtfx_by_round"] for system in systems if system["name"] == NEMO), None)
        if len(systems) > 1:
            groups.append((compared, [_bar(system, nemo if relative else None) for system in systems]))
    if not groups:
        return None
    question = "How much faster than the others?"
    lines = sum(len(bars) + 1.4 for _, bars in groups)
    figure, (axes,) = new_figure(1, [0.27 * lines + 0.6], question)
    names: list[tuple[float, str]] = []
    place = 0.0
    for compared, bars in groups:
        title = compared["model"] + (" (random weights)" if compared["random_weights"] else "")
        axes.text(0, place, title, va="center", fontweight="bold", fontsize=FONT_POINTS - 1)
        for bar in bars:
            place += 1
            _draw_bar(axes, bar, place, colours[compared["model"]], relative)
            names.append((place, "Triton (ours)" if bar.name == OURS else bar.name.replace(" transcribe()", "")))
        place += 1.4
    axes.set_yticks([place for place, _ in names], [name for _, name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(place - 0.8, -0.7)
    axes.set_xlim(0, 1.18 * max(bar.high for _, bars in groups for bar in bars))
    axes.set_xlabel("times as fast as NeMo's transcribe()" if relative else "RTFx, seconds of audio per second")
    axes.grid(visible=False, axis="y")
    return _chart("faster", question, _comparison_caption(report["comparisons"]), figure)


def _bar(system: Json, nemo: Sequence[float] | None) -> Bar:
    """The median of a system with its lowest and highest round; relative to NeMo round by round."""
    values = system["rtfx_by_round"]
    if nemo is not None:
        values = [value / other for value, other in zip(values, nemo, strict=True)]
    in_order = sorted(values)
    middle = len(in_order) // 2
    median = in_order[middle] if len(in_order) % 2 else (in_order[middle - 1] + in_order[middle]) / 2
    return Bar(system["name"], median, in_order[0], in_order[-1])


def _draw_bar(axes: Axes, bar: Bar, place: float, colour: str, relative: bool) -> None:
    text = f"{bar.value:.1f}x" if relative else f"{bar.value:,.0f}"
    draw_bar(axes, place, bar.value, bar.low, bar.high, colour=colour if bar.name == OURS else OTHERS, text=text)


def _comparison_caption(comparisons: Sequence[Json]) -> str:
    rounds = sorted({compared["rounds"] for compared in comparisons})
    concurrent = sorted({compared["at_once"] for compared in comparisons})
    cores = sorted({compared["machine"]["cores"] for compared in comparisons})
    return (
        f"Longer is faster. Median of {_any_of(rounds)} rounds; whiskers: the lowest and the highest round. All run "
        f"the same weights on the same recordings, {_any_of(concurrent)} at a time, on {_any_of(cores)} CPU cores."
    )


def _any_of(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def under_load(report: Json, colours: Mapping[str, str]) -> Chart | None:
    """Latency against the offered rate, or against concurrency if nothing was measured at several rates.

    One panel per model and data set; panels of the same data set have the same axes.
    """
    runs = [(run, _with_latency(run["open"], "rate")) for run in report["served"]]
    label, by_rate = "requests per second, offered", True
    if all(len(loads) < 2 for _, loads in runs):
        runs = [(run, _with_latency(run["closed"], "concurrency")) for run in report["served"]]
        label, by_rate = "concurrent requests", False
    panels = sorted(
        ((run, loads) for run, loads in runs if len(loads) > 1), key=lambda panel: panel[0]["dataset"]["name"]
    )
    if not panels:
        return None
    question = "What happens under load?"
    figure, axes = new_figure(len(panels), [1.9] + [1.7] * (len(panels) - 1), question, sharey=True)
    every_value = [load["latency_ms"][name] for _, loads in panels for load in loads for name in ("p50", "p95")]
    amounts_of: dict[str, list[float]] = {}
    for run, loads in panels:
        amounts_of.setdefault(run["dataset"]["name"], []).extend(map(amount, loads))
    datasets = [run["dataset"]["name"] for run, _ in panels]
    for panel, (run, loads), next_dataset in zip(axes, panels, [*datasets[1:], None], strict=True):
        every_load = amounts_of[run["dataset"]["name"]]
        colour = colours[run["model"]]
        amounts = [amount(load) for load in loads]
        p50, p95 = ([load["latency_ms"][name] for load in loads] for name in ("p50", "p95"))
        panel.fill_between(amounts, p50, p95, color=colour, alpha=0.15, linewidth=0)
        panel.plot(amounts, p95, "o--", color=colour, markersize=3.5, linewidth=1.4)
        panel.plot(amounts, p50, "o-", color=colour, markersize=3.5, linewidth=1.8)
        panel.set_title(_run_name(run, report))
        panel.set_ylabel("latency, ms")
        ratio_axis(panel.yaxis, every_value)
        apart = 0 if p95[-1] > CLOSE_LINES * p50[-1] else 6
        for name, values, shift in (("p95", p95, apart), ("p50", p50, -apart)):
            place = (amounts[-1], values[-1])
            panel.annotate(name, place, xytext=(6, shift), textcoords="offset points", va="center")
        if by_rate:
            panel.set_xlim(0, 1.12 * max(every_load))
            _mark_knee(panel, run, loads)
        else:
            log_axis(panel.xaxis, every_load, sorted(set(every_load)))
        panel.tick_params(axis="x", labelbottom=next_dataset != run["dataset"]["name"])
    axes[-1].set_xlabel(label)
    caption = "Latency of half of the requests (p50, solid) and of 95 % of them (p95, dashed)"
    if by_rate:
        caption += (
            " with requests at random times. Knee (dotted): the last rate before p95 exceeds twice that of the "
            "lowest rate."
        )
    else:
        caption += " against the number of concurrent requests."
    return _chart("load", question, caption, figure)


def _with_latency(loads: Sequence[Json], kind: str) -> list[Json]:
    """The loads of one kind that have an answered request, in order."""
    return sorted((load for load in loads if load["latency_ms"] and kind in load["load"]), key=amount)


def _mark_knee(axes: Axes, run: Json, loads: Sequence[Json]) -> None:
    text = knee_text(run)
    if text is not None:
        axes.set_title(f"knee: {text}", loc="right", fontsize=FONT_POINTS - 1)
    for load in loads:
        if load["name"] == run["knee"]:
            axes.axvline(amount(load), color=MUTED, linestyle=":", linewidth=1.6)


def _run_name(run: Json, report: Json) -> str:
    """The model, with its data set if the report has several."""
    datasets = {served["dataset"]["name"] for served in report["served"]}
    return run["model"] if len(datasets) == 1 else f"{run['model']}, {run['dataset']['name']}"


def where_time_goes(report: Json, colours: Mapping[str, str]) -> Chart | None:
    """A bar per model: shares of a request's mean time in the queue and the computation of each stage."""
    bars = [(run, run["stage_load"]["steps"]) for run in report["served"] if run["stage_load"]]
    bars = [(run, steps) for run, steps in bars if sum(map(_step_ms, steps)) > 0]
    if not bars:
        return None
    question = "Where does the time go?"
    figure, (axes,) = new_figure(1, [0.62 * len(bars) + 1.3], question)
    stages: dict[str, None] = {}
    for place, (run, steps) in enumerate(bars):
        total = sum(map(_step_ms, steps))
        left = 0.0
        for step in steps:
            stage = stage_of(step["model"])
            stages.setdefault(stage)
            computing = _step_ms(step) - step["queue_ms"]
            for width, colour in ((step["queue_ms"], QUEUE), (computing, STAGE_COLOURS[stage])):
                share = 100 * width / total
                axes.barh(place, share, left=left, height=0.42, color=colour)
                if share > 9:
                    on = TEXT if colour == QUEUE else ON_DARK_BAR if stage == "encoder" else ON_LIGHT_BAR
                    axes.text(left + share / 2, place, f"{share:.0f}", ha="center", va="center", color=on)
                left += share
        axes.text(0, place - 0.38, _run_name(run, report), va="center", color=TEXT)
        axes.text(100, place - 0.38, f"{total:,.0f} ms", va="center", ha="right", color=TEXT)
    axes.set_ylim(len(bars) - 0.6, -0.65)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set(xlim=(0, 100), xlabel="% of a request's time in the server")
    order = [stage for stage in STAGE_COLOURS if stage in stages]
    handles = [Patch(color=QUEUE), *(Patch(color=STAGE_COLOURS[stage]) for stage in order)]
    figure.legend(handles, ["waiting", *order], loc="outside lower left", ncols=5, columnspacing=1, handlelength=1)
    loads = dict.fromkeys(load_text(run["stage_load"]) for run, _ in bars)
    caption = (
        f"Mean time of a request with {' or '.join(loads)}, by Triton's counters. Grey: waiting for the stage that "
        "follows; coloured: that stage at work on the batch that has the request."
    )
    return _chart("stages", question, caption, figure)


def _step_ms(step: Json) -> float:
    return sum(step[part] or 0.0 for part in ("queue_ms", "input_ms", "infer_ms", "output_ms"))


def stage_of(model: str) -> str:
    """Kind of a stage, by the name that the export gives it."""
    if is_audio_stage(model):
        return "audio"
    return next((stage for part, stage in PART_STAGES.items() if model.endswith(part.value)), "features")


def _chart(name: str, question: str, caption: str, figure: Figure) -> Chart:
    return Chart(name, question, caption, to_svg(figure, name))
