"""The roofline of a network: the highest RTFx that its FLOPs and its memory traffic allow on a chip."""

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
    """FLOPs and memory traffic of a network per utterance, as polynomials of its seconds (in numpy's order).

    Attributes:
        operations: FLOPs, see flops.FlopCounter.
        elements: Numbers that are read and written, without the weights.
        weights: Number of weights; they are read once per batch.
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
    """The rates of the roofline: from the data sheet of a known GPU, else as measured."""
    gpu = known_gpu(gpus[0]) if gpus else None
    if gpu is not None:
        return {"operations": dict(gpu.operations), "bytes": gpu.bytes, "source": gpu.source, "chip": gpu.name}
    if measured is None:
        return None
    # Formats that the machine lacks can be computed in float32.
    floor = measured["operations"]["fp32"]
    operations = {name: max(rate, floor) for name, rate in measured["operations"].items()}
    source = f"measured with PyTorch {measured['torch']}, a large product and a large copy"
    return {"operations": operations, "bytes": measured["bytes"], "source": source, "chip": measured["device"]}


def roofline(
    cost: NetworkCost, seconds: Sequence[float], *, batches: float, precision: str, rates: Json
) -> Json | None:
    """Calculate the highest RTFx for one pass over utterances.

    Args:
        cost: FLOPs and memory traffic of the network.
        seconds: Duration of each utterance.
        batches: Number of batches, which each read the weights once.
        precision: Precision of the network.
        rates: Result of peak_rates.

    Returns:
        The highest RTFx and what limits it. None if the rate for the precision is unknown, and for int8: PyTorch can't
        measure the instructions that onnxruntime uses for it on CPUs.
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
    """The rates if float32 products don't use TF32."""
    return {**rates, "operations": {name: rate for name, rate in rates["operations"].items() if name != "tf32"}}
