"""The table of models as data: the catalogue and the architectures, each with its measurements."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.core.results_folder import read_json
from benchmark.studies.models_table.exports import Folder
from benchmark.studies.models_table.measure import REQUESTS, SECONDS
from export_scripts.checkpoints.catalogue import CATALOGUE, LATER_MODELS, PUBLISHED
from export_scripts.checkpoints.listed_model import Model
from verification.full_size.architectures import ARCHITECTURES, KNOWN, LATER
from verification.full_size.model_parts import Architecture

COMMAND = "make models-table"
NOT_MEASURED = "not measured"
WEIGHTS = {True: "random", False: "trained"}

Json = dict[str, Any]
Architectures = Mapping[str, Architecture]


def all_rows(
    folder: Folder,
    catalogue: Iterable[Model] = PUBLISHED,
    architectures: Architectures = ARCHITECTURES,
    later: Architectures = LATER,
    earlier: Json | None = None,
    others: Iterable[Model] = LATER_MODELS,
) -> Json:
    """Collect the table.

    Args:
        folder: Working folder with the results.
        catalogue: Models of the main tables, one row each.
        architectures: Architectures of these models.
        later: Architectures of other models.
        earlier: An earlier table. Its memory of long audio is kept for models without a result, and so are its
            measurements of `others`.
        others: Models of the table of later models, one row each.

    Raises:
        ResultsError: A result can't be read.
    """
    known = {**later, **architectures}
    results = read_results(folder.result, [*(model.served_as for model in catalogue), *known])
    rows = [catalogue_row(model, known.get(model.served_as), results, known) for model in catalogue]
    measured = [results[name] for name in dict.fromkeys(row["measured_as"] for row in rows) if name]
    return {
        "command": COMMAND,
        "load": {"concurrency": REQUESTS, "recordings": REQUESTS, "seconds_per_recording": SECONDS},
        "speech": distinct(result["speech"] for result in measured),
        "memory_measure": distinct(result["memory"]["measure"] for result in measured),
        "measured_from": min((result["started"] for result in measured), default=None),
        "measured_to": max((result["started"] for result in measured), default=None),
        "machines": distinct(result["machine"] for result in measured),
        "versions": distinct({**result["versions"], "nemo": result["nemo"]["version"]} for result in measured),
        "models": rows,
        "others": other_rows(folder, (earlier or {}).get("others", []), others, known),
        "long_audio": long_audio_rows(folder, (earlier or {}).get("long_audio", [])),
    }


def other_rows(
    folder: Folder,
    earlier: Iterable[Json],
    others: Iterable[Model] = LATER_MODELS,
    architectures: Architectures = KNOWN,
) -> list[Json]:
    """The rows of later models: the catalogue's figures, with measurements made now or earlier.

    Raises:
        ResultsError: A result can't be read.
    """
    results = read_results(folder.result, [*(model.served_as for model in others), *architectures])
    measured = {row["name"]: row for row in earlier if row["measured"]}
    rows = []
    for model in others:
        row = catalogue_row(model, architectures.get(model.served_as), results, architectures)
        before = measured.get(model.served_as)
        rows.append({**before, **listed_part(model)} if before and not row["measured"] else row)
    return rows


def long_audio_rows(folder: Folder, earlier: Iterable[Json]) -> list[Json]:
    """The rows of the models whose memory was measured now or earlier, in the order of the catalogue.

    Raises:
        ResultsError: A result can't be read.
    """
    names = list(dict.fromkeys([*(model.served_as for model in CATALOGUE), *LATER]))
    rows = {row["name"]: row for row in earlier}
    for name, result in read_results(folder.long_audio, names).items():
        # A result that has only the limit doesn't replace a measurement.
        if result["cases"] or name not in rows:
            rows[name] = long_audio_row(result)
    return sorted(rows.values(), key=lambda row: names.index(row["name"]))


def read_results(file_of: Callable[[str], Path], names: Iterable[str]) -> dict[str, Json]:
    """Read the existing results, by model."""
    files = {name: file_of(name) for name in names}
    return {name: read_json(file) for name, file in files.items() if file.exists()}


def catalogue_row(
    model: Model, architecture: Architecture | None, results: Mapping[str, Json], architectures: Architectures
) -> Json:
    """The row of a model of the catalogue."""
    source = measured_as(model.served_as, architecture, results, architectures)
    return {**listed_part(model), **measured_row(source, results, architecture)}


def listed_part(model: Model) -> Json:
    """What the catalogue knows of a model."""
    average = model.average
    return {
        "name": model.served_as,
        "family": model.family,
        "nemo_class": model.nemo_class,
        "decoder": model.decoder_kind,
        "languages": model.languages,
        "punctuated": model.punctuated,
        "licence": model.licence,
        "published": {
            "by": "NVIDIA" if model in CATALOGUE else None,
            "parameters_millions": model.parameters,
            "wer_percent": word_error_rates(model),
            "source": model.rates_source,
            "leaderboard": asdict(average) if average else None,
        },
    }


def word_error_rates(model: Model) -> dict[str, float]:
    """Percent by LibriSpeech set: of "dev-clean/other" those of "dev-clean" and "dev-other"."""
    if not model.word_error_rates:
        return {}
    part, _, kinds = model.measured_on.partition("-")
    return {f"{part}-{kind}": rate for kind, rate in zip(kinds.split("/"), model.word_error_rates, strict=True)}


def measured_as(
    name: str, architecture: Architecture | None, results: Mapping[str, Json], architectures: Architectures
) -> str | None:
    """Name of the model whose result is shown: this one, else one with the same architecture."""
    if name in results:
        return name
    if architecture is None:
        return None
    return next((other for other in results if architectures.get(other) == architecture), None)


def measured_row(source: str | None, results: Mapping[str, Json], architecture: Architecture | None) -> Json:
    """Measurements with medians; NOT_MEASURED and None if there are none."""
    if source is None:
        parameters = architecture.parameters if architecture else None
        return {"status": NOT_MEASURED, "measured_as": None, "parameters": parameters, "measured": None}
    result = results[source]
    audio, nemo = result["speech"]["seconds"], result["nemo"]
    batch_size = nemo["batch_size"]
    of_nemo = nemo["seconds_by_batch_size"][str(batch_size)]
    times = [theirs / ours for theirs, ours in zip(of_nemo, result["served_seconds"], strict=True)]
    return {
        "status": f"measured with {WEIGHTS[result['random_weights']]} weights",
        "measured_as": source,
        "parameters": result["parameters"],
        "checkpoint_bytes": result["checkpoint_bytes"],
        "onnx_bytes": result["onnx_bytes"],
        "int8_refusal": result["int8_refusal"],
        "measured": {
            "started": result["started"],
            "served_rtfx": rtfx(audio, result["served_seconds"]),
            "int8_rtfx": rtfx(audio, result["int8_seconds"]),
            "nemo_rtfx": rtfx(audio, of_nemo),
            "nemo_batch_size": batch_size,
            "times_nemo": spread(times),
            "single_request_p50_ms": 1e3 * statistics.median(result["single_request_seconds"]),
            "single_requests": len(result["single_request_seconds"]),
            "memory_loaded_bytes": result["memory"]["loaded_bytes"],
            "memory_peak_bytes": result["memory"]["peak_bytes"],
            "texts": result["texts"],
        },
    }


def long_audio_row(result: Json) -> Json:
    """Peak memory of a model by the length of its audio."""
    cases = [case for case in result["cases"].values() if case["error"] is None]
    single = sorted((case["seconds"], case["encoder_peak_bytes"]) for case in cases if case["requests"] == 1)
    limit = result["conditions"]["max_audio_seconds"]
    return {
        "name": result["name"],
        "max_audio_seconds": limit,
        "computed_bytes": result.get("computed_bytes"),
        "measure": result.get("measure"),
        "encoder_bytes_per_minute": per_minute(single),
        "peaks": {
            f"{case['requests']} x {case['seconds']}": {
                "server_bytes": case["peak_bytes"],
                "encoder_bytes": case["encoder_peak_bytes"],
                "after_bytes": case["after_bytes"],
            }
            for case in cases
        },
        "failed": {key: case["error"] for key, case in result["cases"].items() if case["error"] is not None},
    }


def per_minute(peaks: Sequence[tuple[int, int]]) -> float | None:
    """Bytes per minute of audio, from (seconds, bytes) in order of length; None from less than two lengths."""
    if len(peaks) < 2:
        return None
    (short, short_peak), *_, (long, long_peak) = peaks
    return 60 * (long_peak - short_peak) / (long - short)


def rtfx(audio_seconds: float, seconds: Iterable[float]) -> Json | None:
    """Seconds of audio per second over all rounds."""
    rates = [audio_seconds / spent for spent in seconds]
    return spread(rates) if rates else None


def spread(values: list[float]) -> Json:
    """The median, with the lowest and the highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "rounds": len(values)}


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values without repetitions, in their order."""
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept
