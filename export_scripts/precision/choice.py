"""In which numbers a recognizer's encoder computes: a choice of the export, and what it may cost in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from export_scripts.recordings import NO_RECORDINGS, Recordings

PrecisionName = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What holds for every export in a precision.

    purpose: what follows its name in the help of --precision
    max_word_change: default limit of words that differ from NeMo's, as a part of NeMo's words; 0 where texts are NeMo's
    calibrated: whether it learns the ranges of activations from recordings
    cpu_only: whether the encoder can only be served on CPUs
    """

    purpose: str = ""
    max_word_change: float = 0.0
    calibrated: bool = False
    cpu_only: bool = False


RULES: dict[PrecisionName, Rules] = {
    "fp32": Rules(),
    "fp16": Rules(purpose="halves its size and is for GPUs", max_word_change=0.005),
    # onnxruntime computes in 8 bits on CPUs only.
    "int8": Rules(purpose="is for CPUs", max_word_change=0.02, calibrated=True, cpu_only=True),
}
MAX_WORD_CHANGE: dict[PrecisionName, float] = {name: rules.max_word_change for name, rules in RULES.items()}
REDUCED = tuple(name for name, limit in MAX_WORD_CHANGE.items() if limit > 0)
"""Those that may change words."""
CALIBRATED = tuple(name for name, rules in RULES.items() if rules.calibrated)


@dataclass(frozen=True)
class Precision:
    """The choice of one export.

    max_word_change: limit of the edits that turn NeMo's texts of the probes into the export's, as a part of NeMo's
        words; 0 for fp32, whose texts are NeMo's
    calibration: recordings from which a calibrated one learns the range of each activation
    """

    name: PrecisionName = "fp32"
    max_word_change: float = 0.0
    calibration: Recordings = NO_RECORDINGS


FP32 = Precision()
