"""What was measured, brought together with the bound that the chip sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

from benchmark.studies.gpu.chips import known_chip, rate_of
from benchmark.studies.gpu.needs import Needs
from benchmark.studies.gpu.variants import EXACT_PRODUCTS

Json: TypeAlias = dict[str, Any]

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


def chip_rates(gpus: Sequence[str], measured: Json | None) -> Json | None:
    """The rates that the bound is taken of: the data sheet's of a known GPU, else those measured here."""
    chip = known_chip(gpus[0]) if gpus else None
    if chip is not None:
        return {"operations": dict(chip.operations), "bytes": chip.bytes, "source": chip.source, "chip": chip.name}
    if measured is None:
        return None
    # A format that the chip lacks can be converted to one that it has.
    floor = measured["operations"]["fp32"]
    operations = {name: max(rate, floor) for name, rate in measured["operations"].items()}
    source = f"a large product and a large copy, measured here by PyTorch {measured['torch']} on {measured['device']}"
    return {"operations": operations, "bytes": measured["bytes"], "source": source, "chip": measured["device"]}


def bound(needs: Needs, seconds: Sequence[float], batches: float, precision: str, rates: Json) -> Json | None:
    """The highest RTFx that a chip of these rates allows for one pass over utterances of these lengths.

    batches: how often the weights are read in that pass. None where the chip's rate for the precision isn't known, and
    for int8, which onnxruntime computes on CPUs by instructions that PyTorch has no product for.
    """
    rate = rate_of(rates["operations"], precision)
    if rate is None or precision not in ELEMENT_BYTES:
        return None
    operations = needs.operations_of(seconds)
    size = ELEMENT_BYTES[precision]
    moved = size * (needs.elements_of(seconds) + batches * needs.weights)
    computing, moving = operations / rate[1], moved / rates["bytes"]
    audio = sum(seconds)
    return {
        "format": rate[0],
        "operations_a_second_of_audio": operations / audio,
        "bytes_a_second_of_audio": moved / audio,
        "computing_seconds": computing,
        "moving_seconds": moving,
        "limit": "operations" if computing >= moving else "bytes",
        "rtfx": audio / max(computing, moving),
    }


def without_tf32(rates: Json) -> Json:
    """The rates where float32 products are computed in float32."""
    return {**rates, "operations": {name: rate for name, rate in rates["operations"].items() if name != "tf32"}}


def served_row(name: str, sweep: Json, rounds: Sequence[Json], model: Json, context: Json) -> Json:
    """One way's figures at its best concurrency, from the round of the median RTFx, and its whole sweep.

    rounds: measured in turn with those of the other ways
    model: has name, precision and needs, the last None where there is no checkpoint
    context: has durations, rates, nemo_texts (None where there is none)
    """
    loads = [found["loads"][0] for found in rounds]
    rtfx = [load["rtfx"] for load in loads]
    best = sorted(loads, key=lambda load: load["rtfx"])[len(loads) // 2]
    texts, changed = sweep["texts"], {audio for found in (sweep, *rounds) for audio in found["changed_texts"]}
    changed |= {audio for found in rounds for audio, text in found["texts"].items() if text != texts.get(audio)}
    steps = {step["model"]: step for step in best["steps"]}
    executing = sum(step["executing_ms"] for step in steps.values())
    encoder = next(step for step in steps.values() if step["model"].endswith("_encoder"))
    passes = best["answered"] / len(context["durations"])
    limit = None
    if model["needs"] is not None and context["rates"] is not None:
        batches = encoder["executions"] / passes
        rates = without_tf32(context["rates"]) if name == EXACT_PRODUCTS else context["rates"]
        limit = bound(Needs(**model["needs"]), context["durations"], batches, model["precision"], rates)
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


def pytorch_rows(found: Json, context: Json) -> list[Json]:
    """NeMo's module by precision: batches as a program makes them that has all recordings at hand."""
    audio = sum(context["durations"])
    batches = -(-len(context["durations"]) // found["batch"])
    rows = []
    for precision, measured in found["measured"].items():
        limit = None
        if context["rates"] is not None:
            limit = bound(Needs(**found["needs"]), context["durations"], batches, precision, context["rates"])
        rows.append(
            {
                "precision": precision,
                "device": found["device"],
                "batch": found["batch"],
                "rtfx": audio / median(measured["seconds"]),
                "rtfx_by_round": [audio / seconds for seconds in measured["seconds"]],
                "encoding_rtfx": audio / median(measured["encoding_seconds"]),
                "texts": len(measured["texts"]),
                "texts_as_nemo": equal_texts(measured["texts"], context["nemo_texts"]),
                "bound": limit,
            }
        )
    return rows


def equal_texts(texts: Mapping[str, str], nemo: Mapping[str, str] | None) -> int | None:
    """How many are NeMo's in float32; None where NeMo was not run."""
    return None if nemo is None else sum(nemo.get(audio) == text for audio, text in texts.items())
