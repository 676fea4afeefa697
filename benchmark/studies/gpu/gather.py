"""Rows of the GPU report: measurements together with the roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmark.studies.gpu.roofline import Json, NetworkCost, roofline, without_tf32
from benchmark.studies.gpu.variants import EXACT_PRODUCTS
from nemo_triton.contract import Part


def served_row(name: str, sweep: Json, rounds: Sequence[Json], model: Json, context: Json) -> Json:
    """One variant at its best concurrency, from the round of the median RTFx, and its sweep.

    Args:
        name: The variant.
        sweep: The sweep over concurrencies.
        rounds: Rounds at the best concurrency, measured in turn with those of the other variants.
        model: Row of the model, with `name`, `precision` and `needs` (FLOPs and bytes; None without a checkpoint).
        context: Values of the study: `durations`, `rates`, and `nemo_texts` (None if NeMo did not run).
    """
    loads = [measured["loads"][0] for measured in rounds]
    rtfx = [load["rtfx"] for load in loads]
    best = sorted(loads, key=lambda load: load["rtfx"])[len(loads) // 2]
    texts, changed = sweep["texts"], {audio for measured in (sweep, *rounds) for audio in measured["changed_texts"]}
    changed |= {audio for measured in rounds for audio, text in measured["texts"].items() if text != texts.get(audio)}
    steps = {step["model"]: step for step in best["steps"]}
    executing = sum(step["executing_ms"] for step in steps.values())
    encoder = next(step for step in steps.values() if step["model"].endswith(Part.ENCODER.value))
    passes = best["answered"] / len(context["durations"])
    limit = None
    if model["needs"] is not None and context["rates"] is not None:
        batches = encoder["executions"] / passes
        rates = without_tf32(context["rates"]) if name == EXACT_PRODUCTS else context["rates"]
        cost = NetworkCost(**model["needs"])
        precision = model["precision"]
        limit = roofline(cost, context["durations"], batches=batches, precision=precision, rates=rates)
    return {
        "name": name,
        "not_run": None,
        "concurrency": best["load"]["concurrency"],
        "rtfx": best["rtfx"],
        "rtfx_by_round": rtfx,
        "latency_ms": best["latency_ms"],
        "mean_batch_size": encoder["mean_batch_size"],
        "client_busy": best["client_busy"],
        "gpus": (best["usage"] or {}).get("gpus", []),
        "cpu": (best["usage"] or {}).get("cpu"),
        "shares": {stage: step["executing_ms"] / executing for stage, step in steps.items()} if executing else {},
        "texts_changed": len(changed),
        "texts": len(texts),
        "texts_as_nemo": equal_texts(texts, context["nemo_texts"]),
        "bound": limit,
        "sweep": [
            {
                "concurrency": load["load"]["concurrency"],
                "rtfx": load["rtfx"],
                "p50_ms": load["latency_ms"]["p50"],
                "p95_ms": load["latency_ms"]["p95"],
                "mean_batch_size": load["mean_batch_size"],
            }
            for load in sweep["loads"]
        ],
    }


def pytorch_rows(measured: Json, context: Json) -> list[Json]:
    """NeMo's module in PyTorch by precision, on batches of recordings sorted by length."""
    audio = sum(context["durations"])
    batches = -(-len(context["durations"]) // measured["batch"])
    rows = []
    for precision, passes in measured["measured"].items():
        limit = None
        if context["rates"] is not None:
            cost, rates = NetworkCost(**measured["needs"]), context["rates"]
            limit = roofline(cost, context["durations"], batches=batches, precision=precision, rates=rates)
        rows.append(
            {
                "precision": precision,
                "device": measured["device"],
                "batch": measured["batch"],
                "rtfx": audio / median(passes["seconds"]),
                "rtfx_by_round": [audio / seconds for seconds in passes["seconds"]],
                "encoding_rtfx": audio / median(passes["encoding_seconds"]),
                "texts": len(passes["texts"]),
                "texts_as_nemo": equal_texts(passes["texts"], context["nemo_texts"]),
                "bound": limit,
            }
        )
    return rows


def equal_texts(texts: Mapping[str, str], nemo: Mapping[str, str] | None) -> int | None:
    """Count the texts that equal NeMo's in float32; None if NeMo did not run."""
    return None if nemo is None else sum(nemo.get(audio) == text for audio, text in texts.items())
