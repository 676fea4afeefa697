"""The precisions of the encoder, and how many words each may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from export_scripts.recordings import NO_RECORDINGS, Recordings

PrecisionName = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Rules of a precision.

    Attributes:
        purpose: Text that follows the precision's name in the help of --precision.
        max_word_change: Default limit of changed words, as a fraction of NeMo's words. 0: texts equal NeMo's.
        calibrated: Whether recordings set the ranges of activations.
        cpu_only: Whether the encoder runs on CPUs only.
    """

    purpose: str = ""
    max_word_change: float = 0.0
    calibrated: bool = False
    cpu_only: bool = False


RULES: dict[PrecisionName, Rules] = {
    "fp32": Rules(),
    "fp16": Rules(purpose="halves its size, for GPUs", max_word_change=0.005),
    # onnxruntime computes in 8 bits on CPUs only.
    "int8": Rules(
        purpose="makes it smaller and faster, for CPUs", max_word_change=0.02, calibrated=True, cpu_only=True
    ),
}
MAX_WORD_CHANGE: dict[PrecisionName, float] = {name: rules.max_word_change for name, rules in RULES.items()}
REDUCED = tuple(name for name, limit in MAX_WORD_CHANGE.items() if limit > 0)
"""Precisions that may change words."""
CALIBRATED = tuple(name for name, rules in RULES.items() if rules.calibrated)


@dataclass(frozen=True)
class Precision:
    """The precision of one export.

    Attributes:
        name: Name of the precision.
        max_word_change: Limit of word edits between NeMo's and the export's texts of the probes, as a fraction of
            NeMo's words. 0 for fp32, whose texts equal NeMo's.
        calibration: Recordings that set the range of each activation, if the precision is calibrated.
    """

    name: PrecisionName = "fp32"
    max_word_change: float = 0.0
    calibration: Recordings = NO_RECORDINGS


FP32 = Precision()
