"""A folder of results as one report: JSON values, from which tables and charts are drawn and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.core.constants import COMPARED_AT, MORE_ROUNDS, NEMO, OURS, SCORES
from benchmark.core.loads import is_compared
from benchmark.core.results_folder import ResultsError, read_json
from benchmark.reporting import speechloop
from export_scripts.checkpoints.catalogue import CATALOGUE, NEMO_CLASSES

Json = dict[str, Any]

PUBLISHED_SOURCE = "NeMo's documentation, docs/source/asr/data/scores/en"


def gather(results: Path) -> Json:
    """Raises ResultsError where something in the folder can't be read, or it holds nothing measured."""
    if not (results / SCORES).exists():
        raise ResultsError(f"{results}: holds no {SCORES}; run python -m benchmark.score first")
    scores = read_json(results / SCORES)
    scored_at = (results / SCORES).stat().st_mtime
    texts = [*results.glob("*/*/closed.json"), *results.glob("*/*/compared.json")]
    if any(file.stat().st_mtime > scored_at for file in texts):
        raise ResultsError(f"{results / SCORES}: is older than what was measured; run python -m benchmark.score again")
    measured = [read_json(file) for file in sorted(results.glob("*/model.json"))]
    if not measured:
        raise ResultsError(f"{results}: holds no model.json; measure with benchmark.run")
    served = list(_served(results))
    comparisons = [_comparison(read_json(file), scores) for file in sorted(results.glob("*/*/compared.json"))]
    return {
        "normalization": scores["normalization"],
        "published_source": PUBLISHED_SOURCE,
        "models": [*_measured_models(measured, served, scores), *_unmeasured_models(measured)],
        "served": served,
        "comparisons": comparisons,
        "scores": scores["scores"],
        "engines": {
            "source": speechloop.SOURCE,
            "measure": speechloop.MEASURE,
            "published": [asdict(engine) for engine in speechloop.ENGINES],
            "measured": [row for row in scores["scores"] if row["dataset"] == speechloop.WORDS],
        },
    }


def _served(results: Path) -> Iterator[Json]:
    """Closed and open loops of each model on each data set."""
    for file in sorted(results.glob("*/*/closed.json")):
        closed, opened = read_json(file), file.with_name("open.json")
        rounds = [
            closed,
            *(read_json(more) for more in (file.with_name(f"{k}.json") for k in MORE_ROUNDS) if more.exists()),
        ]
        sweep = (
            read_json(opened) if opened.exists() else {"loads": [], "knee": None, "changed_texts": [], "failures": []}
        )
        yield {
            **{key: closed[key] for key in ("model", "parity_id", "random_weights", "server", "machine", "versions")},
            "started": closed["started"],
            "dataset": {"name": closed["dataset_name"], **closed["dataset"]},
            "closed": closed["loads"],
            "compared": [load for measured in rounds for load in measured["loads"] if is_compared(load)],
            "saturation": closed["saturation"],
            "open": sweep["loads"],
            "knee": sweep["knee"],
            "changed_texts": sum(len(measured["changed_texts"]) for measured in (*rounds, sweep)),
            "failures": sum(len(measured["failures"]) for measured in (*rounds, sweep)),
            "worst": closed["worst"],
        }


def _measured_models(measured: list[Json], served: list[Json], scores: Json) -> Iterator[Json]:
    """A row for each model and data set; one without data where a model has no figures."""
    for model in measured:
        sizes = {key: model[key] for key in ("random_weights", "parameters", "checkpoint_bytes", "onnx_bytes")}
        sizes["precision"] = model.get("precision", "fp32")
        runs = [run for run in served if run["model"] == model["name"] and run["compared"]]
        for run in runs:
            dataset = run["dataset"]["name"]
            yield {
                **_known(model["name"], model["nemo_class"]),
                **sizes,
                "dataset": dataset,
                **_rates(scores, model["name"], dataset),
                **_speed(run),
            }
        if not runs:
            yield {**_known(model["name"], model["nemo_class"]), **sizes, "dataset": None}


def _unmeasured_models(measured: list[Json]) -> Iterator[Json]:
    """What is known of the rest of the catalogue."""
    names = {model["name"] for model in measured}
    for model in CATALOGUE:
        if model.served_as not in names:
            yield {**_known(model.served_as, NEMO_CLASSES[model.family]), "dataset": None}


def _known(name: str, nemo_class: str) -> Json:
    known = next((model for model in CATALOGUE if model.served_as == name), None)
    published = None
    if known:
        published = {
            "wer_percent": list(known.word_error_rates),
            "measured_on": known.measured_on,
            "million_parameters": known.parameters,
        }
    return {"model": name, "family": known.family if known else nemo_class, "published": published}


def _rates(scores: Json, model: str, dataset: str, system: str = OURS) -> Json:
    for row in scores["scores"]:
        if (row["model"], row["dataset"], row["system"]) == (model, dataset, system):
            return {key: row.get(key) for key in ("wer", "wer_interval", "cer", "cer_interval")}
    return {"wer": None, "wer_interval": None, "cer": None, "cer_interval": None}


def _speed(run: Json) -> Json:
    """Throughput at one concurrency, the same for all models, in rounds; latency there and for a request alone."""
    by_speed = sorted(run["compared"], key=lambda load: load["rtfx"])
    middle = by_speed[len(by_speed) // 2]
    alone = min(run["closed"], key=lambda load: load["load"]["concurrency"])
    return {
        "rtfx": middle["rtfx"],
        "rtfx_by_round": [load["rtfx"] for load in run["compared"]],
        "concurrency": COMPARED_AT,
        "latency_ms": middle["latency_ms"],
        "latency_alone_ms": alone["latency_ms"] if alone["load"]["concurrency"] == 1 else None,
        "knee": run["knee"],
    }


def _comparison(compared: Json, scores: Json) -> Json:
    """Systems beside ours: speed, ratios by round, error rate, and how many texts are NeMo's."""
    by_name = {system["name"]: system for system in compared["systems"]}
    ours, nemo = by_name.get(OURS), by_name.get(NEMO)
    dataset = compared["dataset"]["name"]
    return {
        "model": compared["model"],
        "random_weights": compared["random_weights"],
        "dataset": compared["dataset"],
        "at_once": compared["conditions"]["at_once"],
        "rounds": compared["conditions"]["rounds"],
        "machine": compared["machine"],
        "versions": compared["versions"],
        "not_run": compared["not_run"],
        "systems": [
            {
                "name": system["name"],
                "version": system["version"],
                "own_model": system["own_model"],
                "rtfx": compared["audio_seconds"] / statistics.median(system["seconds"]),
                "rtfx_by_round": [compared["audio_seconds"] / seconds for seconds in system["seconds"]],
                "ours_is_times": _ratios(system, ours),
                "mean_batch": system["mean_batch"],
                "texts_as_nemo": _equal(system["texts"], nemo["texts"]) if nemo else None,
                "texts": len(system["texts"]),
                "changed_texts": system["changed_texts"],
                **_rates(scores, compared["model"], dataset, system["name"]),
            }
            for system in compared["systems"]
        ],
    }


def _ratios(system: Json, ours: Json | None) -> Json | None:
    if ours is None:
        return None
    ratios = [other / served for other, served in zip(system["seconds"], ours["seconds"], strict=True)]
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def _equal(texts: Mapping[str, str], others: Mapping[str, str]) -> int:
    return sum(others[audio] == text for audio, text in texts.items())
