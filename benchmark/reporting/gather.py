"""All values of a report, as JSON: tables and charts are drawn from these only."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmark.core.constants import COMPARED_AT, MORE_ROUNDS, NEMO, OURS, SCORES
from benchmark.core.loads import fastest
from benchmark.core.results_folder import ResultsError, read_json
from benchmark.reporting import speechloop
from export_scripts.checkpoints.catalogue import CATALOGUE

Json = dict[str, Any]

PUBLISHED_SOURCE = "NeMo's documentation, docs/source/asr/data/scores/en"
_NO_RATES: Json = {"wer": None, "wer_interval": None, "cer": None, "cer_interval": None}


def gather_folder(results: Path) -> Json:
    """The values of a folder that benchmark.run, benchmark.compare and benchmark.score wrote.

    Raises:
        ResultsError: A file can't be read, or nothing was measured or scored.
    """
    if not (results / SCORES).exists():
        raise ResultsError(f"{results}: holds no {SCORES}; run python -m benchmark.score first")
    scores = read_json(results / SCORES)
    scored_at = (results / SCORES).stat().st_mtime
    texts = [*results.glob("*/*/closed.json"), *results.glob("*/*/compared.json")]
    if any(file.stat().st_mtime > scored_at for file in texts):
        raise ResultsError(f"{results / SCORES}: is older than the results; run python -m benchmark.score again")
    models = [read_json(file) for file in sorted(results.glob("*/model.json"))]
    if not models:
        raise ResultsError(f"{results}: holds no model.json; measure with benchmark.run")
    served = [_served_in_folder(file) for file in sorted(results.glob("*/*/closed.json"))]
    comparisons = [_comparison(file, scores) for file in sorted(results.glob("*/*/compared.json"))]
    return _report(scores["normalization"], models, served, comparisons, scores["scores"])


def gather_files(files: Sequence[Path]) -> Json:
    """The values of files that bench.py wrote with --json.

    Raises:
        ResultsError: A file can't be read, or isn't one of bench.py's.
    """
    measured = [_read_bench(file) for file in files]
    names = _names([figures["model"] for figures in measured], [file.stem for file in files])
    datasets = _dataset_names(measured)
    in_common = set.intersection(*(_concurrencies(figures) for figures in measured))
    concurrency = COMPARED_AT if COMPARED_AT in in_common else max(in_common, default=None)
    served, scores, models = [], [], []
    for figures, name, dataset in zip(measured, names, datasets, strict=True):
        named = {**figures, "model": name, "dataset_name": dataset}
        served.append(_served([named], named, concurrency))
        scores.append(_bench_score(figures, name, dataset))
        models.append(
            {
                "name": name,
                "nemo_class": "",
                "random_weights": figures["random_weights"],
                "precision": figures.get("precision") or "fp32",
                **dict.fromkeys(("parameters", "checkpoint_bytes", "onnx_bytes")),
            }
        )
    normalizations = dict.fromkeys(figures["normalization"] for figures in measured)
    if len(normalizations) > 1:
        raise ResultsError(
            f"{files[0]} and others: scored with different --normalization ({', '.join(normalizations)}); "
            "measure with the same one"
        )
    return _report(next(iter(normalizations)), models, served, [], scores)


def _report(
    normalization: str, models: list[Json], served: list[Json], comparisons: list[Json], scores: list[Json]
) -> Json:
    of_words = [row for row in scores if speechloop.is_words(row["dataset"], row["utterances"])]
    scores = [row for row in scores if row not in of_words]
    return {
        "normalization": normalization,
        "published_source": PUBLISHED_SOURCE,
        "models": list(_model_rows(models, served, scores)),
        "served": served,
        "comparisons": [
            compared
            for compared in comparisons
            if not speechloop.is_words(compared["dataset"]["name"], compared["dataset"]["utterances"])
        ],
        "scores": scores,
        "engines": {
            "source": speechloop.SOURCE,
            "measure": speechloop.MEASURE,
            "published": [asdict(engine) for engine in speechloop.ENGINES],
            "measured": of_words,
        },
    }


def _served_in_folder(closed_file: Path) -> Json:
    """Closed and open loops of one model on one data set."""
    open_file = closed_file.with_name("open.json")
    more = [closed_file.with_name(f"{kind}.json") for kind in MORE_ROUNDS]
    rounds = [read_json(file) for file in (closed_file, *more) if file.exists()]
    sweep = read_json(open_file) if open_file.exists() else None
    return _served(rounds, sweep, COMPARED_AT)


def _served(rounds: Sequence[Json], sweep: Json | None, concurrency: int | None) -> Json:
    """One model on one data set.

    Args:
        rounds: Results with closed loops; the first has the whole sweep.
        sweep: Results with open loops.
        concurrency: Closed loop that models are compared by; None if they have none in common.
    """
    closed = rounds[0]
    dataset = closed["dataset"]
    every_file = list({id(measured): measured for measured in (*rounds, sweep) if measured}.values())
    closed_loads = [load for load in closed["loads"] if "concurrency" in load["load"]]
    open_loads = [load for load in (sweep["loads"] if sweep else []) if "rate" in load["load"]]
    compared = [
        load for measured in rounds for load in measured["loads"] if load["load"] == {"concurrency": concurrency}
    ]
    answered = [load for load in (compared[:1] or closed_loads[-1:] or open_loads[-1:]) if load["latency_ms"]]
    return {
        **{key: closed.get(key) for key in ("model", "parity_id", "random_weights", "server", "machine", "versions")},
        "started": closed["started"],
        "dataset": {
            "name": closed["dataset_name"],
            "seconds": dataset.get("audio_seconds", dataset.get("seconds")),
            **dataset,
        },
        "closed": closed_loads,
        "compared": compared,
        "stage_load": next(iter(answered), None),
        "saturation": closed["saturation"],
        "open": open_loads,
        "knee": sweep["knee"] if sweep else None,
        "changed_texts": sum(len(measured["changed_texts"]) for measured in every_file),
        "failures": sum(len(measured["failures"]) for measured in every_file),
        "worst": closed["worst"],
    }


def _model_rows(models: Iterable[Json], served: Sequence[Json], scores: Sequence[Json]) -> Iterator[Json]:
    """A row for each model and data set; one without data if a model was not put under load."""
    for model in models:
        sizes = {key: model[key] for key in ("random_weights", "parameters", "checkpoint_bytes", "onnx_bytes")}
        known = {**_known(model["name"], model["nemo_class"]), **sizes, "precision": model.get("precision", "fp32")}
        runs = [run for run in served if run["model"] == model["name"]]
        for run in runs:
            dataset = run["dataset"]["name"]
            yield {**known, "dataset": dataset, **_rates(scores, model["name"], dataset), **_speed(run)}
        if not runs:
            yield {**known, "dataset": None}


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


def _rates(scores: Iterable[Json], model: str, dataset: str, system: str = OURS) -> Json:
    for row in scores:
        if (row["model"], row["dataset"], row["system"]) == (model, dataset, system):
            return {key: row.get(key) for key in _NO_RATES}
    return _NO_RATES


def _speed(run: Json) -> Json:
    """Throughput and latency of the compared load (median over rounds), and the latency of a single request.

    Without a compared load: the closed loop with the highest throughput.
    """
    loads = run["compared"] or ([fastest(run["closed"])] if run["closed"] else [])
    by_speed = sorted(loads, key=lambda load: load["rtfx"])
    single = next((load for load in run["closed"] if load["load"] == {"concurrency": 1}), None)
    middle = by_speed[len(by_speed) // 2] if by_speed else None
    return {
        "rtfx": middle["rtfx"] if middle else None,
        "rtfx_by_round": [load["rtfx"] for load in loads],
        "concurrency": middle["load"]["concurrency"] if middle else None,
        "latency_ms": middle["latency_ms"] if middle else None,
        "latency_alone_ms": single["latency_ms"] if single else None,
        "knee": run["knee"],
    }


def _comparison(file: Path, scores: Json) -> Json:
    """Systems compared with ours: speed, ratios by round, error rate, and how many texts are NeMo's."""
    compared = read_json(file)
    by_name = {system["name"]: system for system in compared["systems"]}
    ours, nemo = by_name.get(OURS), by_name.get(NEMO)
    dataset = compared["dataset"]["name"]
    written = datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).isoformat(timespec="seconds")
    return {
        "model": compared["model"],
        "random_weights": compared["random_weights"],
        "started": compared.get("started", written),
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
                **_rates(scores["scores"], compared["model"], dataset, system["name"]),
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


def _read_bench(file: Path) -> Json:
    figures = read_json(file)
    missing = [key for key in ("model", "loads", "dataset", "manifest", "normalization") if key not in figures]
    if missing:
        raise ResultsError(f"{file}: not written by bench.py --json (no {missing[0]!r}); name a file that was")
    if not any(load["latency_ms"] for load in figures["loads"]):
        raise ResultsError(f"{file}: no request was answered in it; measure again")
    return figures


def _names(models: Sequence[str], stems: Sequence[str]) -> list[str]:
    """Model names; with the name of the file where several files have the same model."""
    counts = Counter(models)
    names = [model if counts[model] == 1 else f"{model} ({stem})" for model, stem in zip(models, stems, strict=True)]
    # Files of one name in several folders.
    return [name if names.count(name) == 1 else f"{name} {number}" for number, name in enumerate(names, start=1)]


def _dataset_names(measured: Sequence[Json]) -> list[str]:
    """The name of each file's data set by its manifest; equal if and only if the recordings are the same."""
    names: dict[str, str] = {}
    for figures in measured:
        manifest = Path(figures["manifest"])
        name = manifest.parent.name if manifest.stem == "manifest" and manifest.parent.name else manifest.stem
        digest = str(figures["dataset"]["sha256"])
        names.setdefault(digest, f"{name} ({digest[:6]})" if name in names.values() else name)
    return [names[str(figures["dataset"]["sha256"])] for figures in measured]


def _concurrencies(figures: Json) -> set[int]:
    return {load["load"]["concurrency"] for load in figures["loads"] if "concurrency" in load["load"]}


def _bench_score(figures: Json, name: str, dataset: str) -> Json:
    """A row as benchmark.score writes it; without error rates if the weights are random."""
    row: Json = {
        "system": OURS,
        "model": name,
        "dataset": dataset,
        "random_weights": figures["random_weights"],
        "utterances": figures["utterances"],
        "sclite": None,
    }
    if figures["random_weights"]:
        return row
    words = {key: value for key, value in figures["words"].items() if key != "total"}
    return row | {key: figures[key] for key in _NO_RATES} | {"mean_capped_wer": None, "words": words}
