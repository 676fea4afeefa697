"""Architectures of published recognizers at full size, by name."""

from __future__ import annotations

from dataclasses import dataclass

from export_scripts.checkpoints.families import HybridCtcDecoder
from verification.full_size.conformer_models import CONFORMER_XLARGE, CONFORMERS
from verification.full_size.convolutional_models import CONVOLUTIONAL
from verification.full_size.fastconformer_models import FAST_CONFORMERS
from verification.full_size.model_parts import Architecture

ARCHITECTURES: dict[str, Architecture] = CONVOLUTIONAL | CONFORMERS
"""The 22 of the catalogue."""

LATER: dict[str, Architecture] = {
    "stt_en_contextnet_256": CONVOLUTIONAL["stt_en_contextnet_256_mls"],
    **FAST_CONFORMERS,
    "stt_en_conformer_ctc_xlarge": CONFORMER_XLARGE,
}
"""Later models: FastConformers, Parakeets, and variants of the 22."""

KNOWN: dict[str, Architecture] = ARCHITECTURES | LATER


@dataclass(frozen=True)
class Served:
    """A recognizer of an architecture's checkpoint.

    Attributes:
        checkpoint: Name of the architecture.
        is_transducer: Whether it decodes with a joint network.
    """

    checkpoint: str
    is_transducer: bool


def recognizers(name: str) -> dict[str, Served]:
    """The recognizers of an architecture by name, the main one first; a hybrid's second has its CTC head."""
    architecture = KNOWN[name]
    served = {name: Served(name, architecture.is_transducer)}
    if architecture.is_hybrid:
        served[f"{name}{HybridCtcDecoder.suffix}"] = Served(name, is_transducer=False)
    return served


RECOGNIZERS: dict[str, Served] = {key: served for name in KNOWN for key, served in recognizers(name).items()}
"""The recognizers of all architectures, by name."""
