"""The report's tables: headings and cells, for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.core.constants import NEMO, OURS
from benchmark.core.scoring import sclite_agrees
from benchmark.core.tables import MB, NONE, Table, number
from benchmark.reporting.wording import amount, knee_text, load_text
from nemo_triton.loadtest.figures import KNEE, SATURATED
from nemo_triton.loadtest.wer import NORMALIZATIONS

Json = dict[str, Any]

AGREEMENT = {True: "as many errors", False: "more errors", None: NONE}
SCLITE_NOTE = " sclite: whether NIST's scorer counts as many errors; it weighs them differently and may count more."
LOAD_HEADINGS = (
    "RTFx",
    "p50, ms",
    "p95, ms",
    "p99, ms",
    "requests per second",
    "mean batch",
    "CPU, %",
    "failed",
)


def all_tables(report: Json) -> list[Table]:
    """The tables that have rows, in the order of the page: the summary first."""
    tables = [
        summary(report),
        *(comparison(compared, explained=i == 0) for i, compared in enumerate(report["comparisons"])),
        accuracy(report),
        closed_loops(report),
        open_loops(report),
        stages(report),
        models(report),
    ]
    return [table for table in tables if table.rows]


def summary(report: Json) -> Table:
    """The headline figures: one row per model and data set."""
    sizes = {model["model"]: model.get("onnx_bytes") for model in report["models"]}
    served = [model for model in report["models"] if model["dataset"]]
    rows = [_summary_row(model, _comparison_of(report, model), sizes) for model in served]
    in_rows = {(model["model"], model["dataset"]) for model in served}
    rows += [
        _summary_row(_as_model(compared), compared, sizes)
        for compared in report["comparisons"]
        if (compared["model"], compared["dataset"]["name"]) not in in_rows
    ]
    note = "RTFx: seconds of audio per second. p50 and p95: latency of half of the requests and of 95 % of them."
    loads = {row["concurrent requests"] for row in rows} - {NONE}
    if len(loads) == 1:
        note += f" RTFx and p95: with {loads.pop()} concurrent requests."
        rows = [{**row, "concurrent requests": NONE} for row in rows]
    if any(row["RTFx, lowest to highest"] != NONE for row in rows):
        note += " RTFx is the median of rounds; the last column has the slowest and the fastest round."
    if report["comparisons"]:
        note += " The tables below come from other minutes or single rounds: compare ratios, not RTFx, between tables."
    if len({row["data"] for row in rows}) == 1:
        rows = [{**row, "data": NONE} for row in rows]
    if any(row["random_weights"] for row in [*served, *report["comparisons"]]):
        note += " Models with random weights show the speed of their architecture; they have no WER."
    headings = list(rows[0]) if rows else []
    return _without_empty_columns(Table("Summary", headings, [list(row.values()) for row in rows], note))


def _summary_row(model: Json, compared: Json | None, sizes: Mapping[str, int | None]) -> dict[str, str]:
    """The cells of a model by their headings."""
    single, latency = model["latency_alone_ms"], model["latency_ms"]
    return {
        "model": model["model"] + _weights_note(model),
        "data": model["dataset"],
        "concurrent requests": number(model["concurrency"]),
        "RTFx": number(model["rtfx"], 1),
        "WER, %": percent(model["wer"]),
        "ONNX, MB": number(_megabytes(sizes.get(model["model"])), 1),
        "p50 of a single request, ms": number(single["p50"]) if single else NONE,
        "p95, ms": number(latency["p95"]) if latency else NONE,
        "times as fast as NeMo": _times_nemo(compared),
        "RTFx, lowest to highest": _range(model["rtfx_by_round"], 1),
    }


def _comparison_of(report: Json, model: Json) -> Json | None:
    for compared in report["comparisons"]:
        if (compared["model"], compared["dataset"]["name"]) == (model["model"], model["dataset"]):
            return dict(compared)
    return None


def _as_model(compared: Json) -> Json:
    """Values of a model that was only compared with other systems, from the comparison."""
    ours: Json = next((system for system in compared["systems"] if system["name"] == OURS), {})
    return {
        "model": compared["model"],
        "random_weights": compared["random_weights"],
        "dataset": compared["dataset"]["name"],
        "concurrency": compared["at_once"],
        "rtfx": ours.get("rtfx"),
        "rtfx_by_round": ours.get("rtfx_by_round", []),
        "wer": ours.get("wer"),
        "latency_ms": None,
        "latency_alone_ms": None,
    }


def _times_nemo(compared: Json | None) -> str:
    """Speedup of our served model over NeMo's transcribe()."""
    systems = compared["systems"] if compared else []
    ratios = next((system["ours_is_times"] for system in systems if system["name"] == NEMO), None)
    return number(ratios["median"], 2) if ratios else NONE


def _weights_note(row: Json) -> str:
    return " (random weights)" if row["random_weights"] else ""


def models(report: Json) -> Table:
    """Sizes and precision of each model."""
    rows = {
        model["model"]: [
            model["model"],
            model["family"] or NONE,
            "random" if model["random_weights"] else "trained",
            model["precision"],
            number(model["parameters"] / 1e6 if model["parameters"] else None, 1),
            number(_megabytes(model["checkpoint_bytes"]), 1),
            number(_megabytes(model["onnx_bytes"]), 1),
        ]
        for model in report["models"]
        if model["onnx_bytes"]
    }
    headings = ["model", "family", "weights", "precision", "parameters, M", ".nemo, MB", "ONNX, MB"]
    return Table("Models", headings, list(rows.values()), "ONNX: all stages, including those that models share.")


def closed_loops(report: Json) -> Table:
    """Throughput and latency by concurrency."""
    return Table(
        "Throughput by concurrency",
        ["model", "data", "concurrent requests", *LOAD_HEADINGS],
        [
            [run["model"], run["dataset"]["name"], str(load["load"]["concurrency"]), *_load_cells(load)]
            for run in report["served"]
            for load in run["closed"]
        ],
        "Closed loop: the next request is sent when one is answered. Mean batch: of the stage that computes longest. "
        f"CPU: of all cores of the server's machine.{_saturations(report)} Recordings that got different transcripts "
        f"under different loads: {sum(run['changed_texts'] for run in report['served'])}.",
    )


def _saturations(report: Json) -> str:
    saturations = [
        f"{run['model']} {amount(load):g}"
        for run in report["served"]
        for load in run["closed"]
        if load["name"] == run["saturation"]
    ]
    if not saturations:
        return ""
    return f" Lowest concurrency with {100 * SATURATED:.0f} % of the highest throughput: {', '.join(saturations)}."


def open_loops(report: Json) -> Table:
    """Latency by offered rate."""
    return Table(
        "Latency by request rate",
        ["model", "data", "offered per second", *LOAD_HEADINGS, "knee"],
        [
            [
                run["model"],
                run["dataset"]["name"],
                number(load["load"]["rate"], 2),
                *_load_cells(load),
                "knee" if load["name"] == run["knee"] else "",
            ]
            for run in report["served"]
            for load in run["open"]
        ],
        "Open loop: requests at random times (a Poisson process), however busy the server is. Latency counts from "
        f"the moment when a request is due. Knee: the last rate before p95 exceeds {KNEE:g} times that of the lowest "
        f"rate.{_unbracketed_knees(report)}",
    )


def _unbracketed_knees(report: Json) -> str:
    knees = [
        f"{run['model']} {knee_text(run)}"
        for run in report["served"]
        if run["knee"] and all(load["name"] != run["knee"] for load in run["open"])
    ]
    return f" Outside the rates measured: {', '.join(knees)}." if knees else ""


def _load_cells(load: Json) -> list[str]:
    latencies = load["latency_ms"] or {}
    cpu = (load.get("usage") or {}).get("cpu")
    return [
        number(load["rtfx"], 1),
        *(number(latencies.get(name)) for name in ("p50", "p95", "p99")),
        number(load["requests_per_second"], 2),
        number(load["mean_batch_size"], 2),
        number(100 * cpu["mean"]) if cpu else NONE,
        str(load["failed"]),
    ]


def stages(report: Json) -> Table:
    """Time of a request by stage."""
    return Table(
        "Time by stage",
        ["model", "data", "load", "stage", "mean batch", "queue, ms", "input, ms", "infer, ms", "output, ms"],
        [
            [run["model"], run["dataset"]["name"], load_text(run["stage_load"]), step["model"]]
            + [number(step["mean_batch_size"], 2)]
            + [number(step[part], 2) for part in ("queue_ms", "input_ms", "infer_ms", "output_ms")]
            for run in report["served"]
            if run["stage_load"]
            for step in run["stage_load"]["steps"]
        ],
        "By Triton's counters. Means over requests; each request has the times of the batch that it was in.",
    )


def comparison(compared: Json, *, explained: bool = True) -> Table:
    """One model compared with other systems; with or without a note that explains the columns."""
    dataset = compared["dataset"]
    has_own_model = any(system["own_model"] for system in compared["systems"])
    note = (
        f"{dataset['utterances']} recordings, {dataset['seconds']:.0f} s, {compared['at_once']} at a time, on "
        f"{compared['machine']['cores']} CPU cores; {compared['rounds']} rounds, in which the systems run in turn."
    )
    if explained:
        note += (
            " RTFx: median of the rounds. Speedup of ours: round by round, median and range. Systems that get all "
            "recordings in advance sort them by length; the server's clients don't."
        )
    if has_own_model:
        note += " All run the same weights, except those marked *, which have their own model."
    if compared["not_run"]:
        note += f" Not run: {'; '.join(f'{name} ({reason})' for name, reason in compared['not_run'].items())}."
    return _without_empty_columns(
        Table(
            f"{compared['model']}{_weights_note(compared)} compared with others on {dataset['name']}",
            [
                "system",
                "RTFx",
                "speedup of ours",
                "lowest to highest",
                "mean batch",
                "WER, %",
                "95 % interval",
                "CER, %",
                "transcripts equal to NeMo's",
                "version",
            ],
            [_compared_row(system) for system in compared["systems"]],
            note,
        )
    )


def _compared_row(system: Json) -> list[str]:
    times = system["ours_is_times"] if system["name"] != OURS else None
    same = NONE if system["texts_as_nemo"] is None else f"{system['texts_as_nemo']}/{system['texts']}"
    return [
        system["name"] + (" *" if system["own_model"] else ""),
        number(system["rtfx"], 1),
        number(times["median"], 2) if times else NONE,
        f"{times['lowest']:.2f} to {times['highest']:.2f}" if times else NONE,
        number(system["mean_batch"], 1),
        percent(system["wer"]),
        _interval(system["wer_interval"]),
        percent(system["cer"]),
        same,
        system["version"] or NONE,
    ]


def accuracy(report: Json) -> Table:
    """Error rates of everything that was scored."""
    return _without_empty_columns(
        Table(
            "Accuracy",
            [
                "system",
                "model",
                "data",
                "utterances",
                "WER, %",
                "95 % interval",
                "substitutions",
                "insertions",
                "deletions",
                "CER, %",
                "sclite",
            ],
            [
                [row["system"], row["model"], row["dataset"], str(row["utterances"])]
                + [percent(row["wer"]), _interval(row["wer_interval"])]
                + [str(row["words"][kind]) for kind in ("substitutions", "insertions", "deletions")]
                + [percent(row["cer"]), AGREEMENT[sclite_agrees(row)]]
                for row in report["scores"]
                if row.get("wer") is not None
            ],
            f"{NORMALIZATIONS[report['normalization']].statement} Corpus rates; 95 % intervals by a bootstrap over "
            f"utterances.{SCLITE_NOTE if any(row['sclite'] for row in report['scores']) else ''}",
        )
    )


def _without_empty_columns(table: Table) -> Table:
    """The table without columns that have no value in any row."""
    kept = [
        column
        for column in range(len(table.headings))
        if not table.rows or any(row[column] not in ("", NONE) for row in table.rows)
    ]
    return Table(
        table.title,
        [table.headings[column] for column in kept],
        [[row[column] for column in kept] for row in table.rows],
        table.note,
    )


def percent(value: float | None) -> str:
    """A fraction as a number of percent."""
    return number(None if value is None else 100 * value, 2)


def _interval(interval: Sequence[float] | None) -> str:
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}" if interval else NONE


def _range(values: Sequence[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if len(values) > 1 else NONE


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / MB
