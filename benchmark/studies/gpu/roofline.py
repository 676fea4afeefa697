"""The roofline of a network on a GPU: the highest RTFx that its FLOPs and its memory traffic allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from benchmark.studies.gpu.gpus import known_gpu, rate_of

Json: TypeAlias = dict[str, Any]

ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class NetworkCost:
    """What a network computes and moves per utterance, as polynomials of its seconds (numpy's order of degrees).

    operations, elements: of its products, see flops.FlopCounter; elements are without the weights
    weights: numbers in the operands that do not grow with the audio
    """

    operations: tuple[float, ...]
    elements: tuple[float, ...]
    weights: int

    def operations_of(self, seconds: Sequence[float]) -> float:
        """FLOPs of all utterances of these lengths together."""
        return float(np.polyval(self.operations, seconds).sum())

    def elements_of(self, seconds: Sequence[float]) -> float:
        """Numbers moved for all utterances of these lengths together, without weights."""
        return float(np.polyval(self.elements, seconds).sum())


def peak_rates(gpus: Sequence[str], measured: Json | None) -> Json | None:
    """The rates of the roofline: the data sheet's of a known GPU, else those measured here."""
    gpu = known_gpu(gpus[0]) if gpus else None
    if gpu is not None:
        return {"operations": dict(gpu.operations), "bytes": gpu.bytes, "source": gpu.source, "chip": gpu.name}
    if measured is None:
        return None
    # A format that the machine lacks can be converted to one that it has.
    floor = measured["operations"]["fp32"]
    operations = {name: max(rate, floor) for name, rate in measured["operations"].items()}
    source = f"a large product and a large copy, measured here by PyTorch {measured['torch']} on {measured['device']}"
    return {"operations": operations, "bytes": measured["bytes"], "source": source, "chip": measured["device"]}


def roofline(
    cost: NetworkCost, seconds: Sequence[float], *, batches: float, precision: str, rates: Json
) -> Json | None:
    """The highest RTFx that these rates allow for one pass over utterances of these lengths.

    Args:
        cost: of the network
        seconds: of each utterance
        batches: how often the weights are read in that pass
        precision: of the network
        rates: of peak_rates

    Returns:
        The limit and what sets it; None where the rate for the precision isn't known, and for int8, which onnxruntime
        computes on CPUs by instructions that PyTorch has no product for.
    """
    rate = rate_of(rates["operations"], precision)
    if rate is None or precision not in ELEMENT_BYTES:
        return None
    operations = cost.operations_of(seconds)
    size = ELEMENT_BYTES[precision]
    moved = size * (cost.elements_of(seconds) + batches * cost.weights)
    computing, moving = operations / rate[1], moved / rates["bytes"]
    audio = sum(seconds)
    return {
        "format": rate[0],
        "operations_per_second_of_audio": operations / audio,
        "bytes_per_second_of_audio": moved / audio,
        "computing_seconds": computing,
        "moving_seconds": moving,
        "limit": "operations" if computing >= moving else "bytes",
        "rtfx": audio / max(computing, moving),
    }


def without_tf32(rates: Json) -> Json:
    """The rates where float32 products are computed in float32."""
    return {**rates, "operations": {name: rate for name, rate in rates["operations"].items() if name != "tf32"}}
