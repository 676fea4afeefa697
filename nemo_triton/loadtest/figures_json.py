"""JSON that holds the figures of a load test with all that is needed to repeat the run."""

from __future__ import annotations

import dataclasses
from typing import Any

from nemo_triton.loadtest.figures import LoadFigures, Results, worst_utterances
from nemo_triton.loadtest.json_keys import to_json
from nemo_triton.loadtest.wer import NORMALIZATIONS, alignment

JSON_START = '{\n  "started":'
"""Start of the file, also of files that earlier versions wrote."""


def as_json(results: Results, worst_limit: int) -> dict[str, Any]:
    """Convert the results to JSON values.

    Args:
        results: Figures of a run.
        worst_limit: Number of utterances to include, those with the most wrong words.
    """
    scores = results.score
    return {
        **results.setting,
        "normalization_statement": NORMALIZATIONS[results.setting["normalization"]].statement,
        "complete": results.complete,
        "utterances": results.utterances,
        "wer": scores.wer.value,
        "wer_interval": scores.wer.interval,
        "cer": scores.cer.value,
        "cer_interval": scores.cer.interval,
        "words": {**dataclasses.asdict(scores.words), "total": scores.words.total},
        "characters": {**dataclasses.asdict(scores.characters), "total": scores.characters.total},
        "changed_texts": list(results.changed_texts),
        "loads": [_load_json(load) for load in results.loads],
        "saturation": results.saturation.name if results.saturation else None,
        "knee": results.knee,
        "slo": _search_json(results) if results.search else None,
        "worst": [
            {
                "audio": scored.audio,
                "errors": scored.pair.words.errors,
                "alignment": alignment(scored.pair),
            }
            for scored in worst_utterances(results, worst_limit)
        ],
        "failures": list(results.failures),
        "notes": list(results.notes),
    }


def _search_json(results: Results) -> dict[str, Any]:
    search, best = results.search, results.best
    assert search is not None
    return {
        "objective": search.objective.name,
        "percentile": search.objective.key,
        "limit_ms": search.objective.limit_ms,
        "rate": best.load["rate"] if best else None,
        "rtfx": best.rtfx if best else None,
        "latency_ms": best.latency_ms if best else None,
        "lowest_missed_rate": search.missed_rate,
        "finished": search.finished,
        "trials": [
            {"name": trial.load.name, "kept": trial.kept, "missed_because": trial.miss or None}
            for trial in search.trials
        ],
    }


def _load_json(load: LoadFigures) -> dict[str, Any]:
    return {
        **to_json(load),
        "rtfx": load.rtfx,
        "requests_per_second": load.requests_per_second,
        "mean_batch_size": load.mean_batch_size,
    }
