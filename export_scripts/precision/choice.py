"""In which numbers a recognizer's encoder computes: a choice of the export, and what it may cost in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from export_scripts.verify.recordings import NO_RECORDINGS, Recordings

PrecisionName = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)
MAX_WORD_CHANGE: dict[PrecisionName, float] = {"fp32": 0.0, "fp16": 0.005, "int8": 0.02}
"""Words that may differ from NeMo's, as a share of NeMo's words, unless an export says otherwise."""


@dataclass(frozen=True)
class Precision:
    """The choice of one export.

    max_word_change: edits that turn NeMo's texts of the probes into the export's, as a share of NeMo's words, at most;
        fp32 has none to spend: its texts are NeMo's
    calibration: from which int8 learns the range of each activation
    """

    name: PrecisionName = "fp32"
    max_word_change: float = 0.0
    calibration: Recordings = NO_RECORDINGS


FP32 = Precision()
