"""In which numbers a recognizer's encoder computes: a choice of the export, and what it may cost in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from export_scripts.recordings import NO_RECORDINGS, Recordings

PrecisionName = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)
MAX_WORD_CHANGE: dict[PrecisionName, float] = {"fp32": 0.0, "fp16": 0.005, "int8": 0.02}
"""Default limit of words that differ from NeMo's, as a part of NeMo's words."""


@dataclass(frozen=True)
class Precision:
    """The choice of one export.

    max_word_change: limit of the edits that turn NeMo's texts of the probes into the export's, as a part of NeMo's
        words; 0 for fp32, whose texts are NeMo's
    calibration: recordings from which int8 learns the range of each activation
    """

    name: PrecisionName = "fp32"
    max_word_change: float = 0.0
    calibration: Recordings = NO_RECORDINGS


FP32 = Precision()
