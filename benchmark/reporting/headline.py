"""A report's title, and the paragraph that says what was measured and how the models compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmark.core.constants import NEMO
from benchmark.reporting.wording import days, listing, machine, versions

Json = dict[str, Any]

NO_BREAK = "\N{NO-BREAK SPACE}"
NAMED_IN_TITLE = 3
"""Largest number of models that a title names."""
CLEARLY_FASTER = 1.15
"""Ratio of two RTFx of one round each that is more than the noise of a shared machine."""


def default_title(report: Json) -> str:
    """The title of a report if the user gave none."""
    names = list(dict.fromkeys(row["model"] for row in report["models"]))
    subject = listing(names) if len(names) <= NAMED_IN_TITLE else f"{len(names)} recognizers"
    return f"{subject}: speed and accuracy"


def measured_on(report: Json) -> str:
    """Date, machine and data of the measurements, in sentences."""
    runs = [*report["served"], *report["comparisons"]]
    if not runs:
        return "Nothing was put under load."
    machines = dict.fromkeys(machine(run["machine"]) for run in runs)
    datasets = {run["dataset"]["name"]: run["dataset"] for run in runs}
    data = [
        f"{name} ({dataset['utterances']} recordings, {dataset['seconds'] / 60:.1f} minutes)"
        for name, dataset in datasets.items()
    ]
    return (
        f"Measured on {days(run['started'] for run in runs)} on {'; and on '.join(machines)}. Recordings: "
        f"{listing(data)}."
    )


def versions_line(report: Json) -> str:
    """The server and the packages that measured."""
    servers = dict.fromkeys(run["server"] for run in report["served"] if run["server"])
    packages = dict.fromkeys(versions(run["versions"]) for run in [*report["served"], *report["comparisons"]])
    return "; ".join([*servers, *packages])


def sentences(report: Json) -> list[str]:
    """Compare the models of each data set, and ours with NeMo, in sentences."""
    datasets = dict.fromkeys(model["dataset"] for model in report["models"] if model["dataset"])
    by_dataset = [[model for model in report["models"] if model["dataset"] == dataset] for dataset in datasets]
    compared = [_models_sentence([row for row in rows if row["rtfx"]]) for rows in by_dataset]
    failures = sum(run["failures"] for run in report["served"])
    return [
        *filter(None, compared),
        *filter(None, [_nemo_sentence(report["comparisons"])]),
        *([f"{failures} requests failed."] if failures else []),
    ]


def _models_sentence(rows: Sequence[Json]) -> str | None:
    if len(rows) < 2:
        return None
    return _pair_sentence(*_ordered(*rows)) if len(rows) == 2 else _best_sentence(rows)


def _ordered(first: Json, second: Json) -> tuple[Json, Json]:
    """The model to describe, and the one to compare it with: the one in fp32, or else the slower one."""
    precisions = (first["precision"], second["precision"])
    if precisions[0] != precisions[1] and "fp32" in precisions:
        return (first, second) if precisions[1] == "fp32" else (second, first)
    return (first, second) if first["rtfx"] > second["rtfx"] else (second, first)


def _pair_sentence(model: Json, base: Json) -> str:
    ratio = model["rtfx"] / base["rtfx"]
    parts = [f"{model['model']} is {ratio:.2f} times as fast as {base['model']}"]
    if not _speeds_differ(model, base):
        parts[0] += " (within the noise)"
    if model["wer"] is not None and base["wer"] is not None:
        parts.append(_wer_part(model, base))
    if model["onnx_bytes"] and base["onnx_bytes"]:
        size, base_size = map(_megabytes, (model, base))
        parts.append(f"takes {size} instead of {base_size}" if size != base_size else f"is of the same size ({size})")
    return f"On {model['dataset']}, {listing(parts)}."


def _speeds_differ(model: Json, base: Json) -> bool:
    """Whether no round of one is as fast as one of the other; if there is one round, by CLEARLY_FASTER."""
    rounds, base_rounds = (row["rtfx_by_round"] or [row["rtfx"]] for row in (model, base))
    low, high = sorted((rounds, base_rounds), key=max)
    noise = CLEARLY_FASTER if len(low) == len(high) == 1 else 1.0
    return bool(min(high) > noise * max(low))


def _wer_part(model: Json, base: Json) -> str:
    wer, base_wer = map(_percent, (model, base))
    if wer == base_wer:
        return f"has the same WER ({wer})"
    text = f"has a WER of {wer} instead of {base_wer}"
    if model["wer_interval"] and base["wer_interval"]:
        (low, high), (base_low, base_high) = model["wer_interval"], base["wer_interval"]
        if low <= base_high and base_low <= high:
            text += f" (overlapping 95{NO_BREAK}% intervals)"
    return text


def _best_sentence(rows: Sequence[Json]) -> str:
    fastest, slowest = (pick(rows, key=lambda row: row["rtfx"]) for pick in (max, min))
    times = f"{fastest['rtfx'] / slowest['rtfx']:.1f} times as fast as {slowest['model']}"
    claims = {fastest["model"]: [f"is the fastest ({times})"]}
    scored = [row for row in rows if row["wer"] is not None]
    if len(scored) > 1:
        best = min(scored, key=lambda row: row["wer"])
        claims.setdefault(best["model"], []).append(f"has the lowest WER ({_percent(best)})")
    sized = [row for row in rows if row["onnx_bytes"]]
    if len(sized) > 1:
        smallest = min(sized, key=lambda row: row["onnx_bytes"])
        claims.setdefault(smallest["model"], []).append(f"is the smallest ({_megabytes(smallest)})")
    return f"On {rows[0]['dataset']}, {listing([f'{name} {listing(texts)}' for name, texts in claims.items()])}."


def _percent(row: Json) -> str:
    return f"{100 * row['wer']:.2f}{NO_BREAK}%"


def _megabytes(row: Json) -> str:
    return f"{row['onnx_bytes'] / 1e6:.1f}{NO_BREAK}MB"


def _nemo_sentence(comparisons: Sequence[Json]) -> str | None:
    ratios = [
        system["ours_is_times"]["median"]
        for compared in comparisons
        for system in compared["systems"]
        if system["name"] == NEMO and system["ours_is_times"]
    ]
    if not ratios:
        return None
    low, high = f"{min(ratios):.1f}", f"{max(ratios):.1f}"
    times = low if low == high else f"{low} to {high}"
    return f"Served by Triton, the models are {times} times as fast as with NeMo's transcribe() on the same machine."
