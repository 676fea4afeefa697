"""Compare served texts with NeMo's: equal, a near tie, or a mismatch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from verification.full_size.records import Record

LogProbs = NDArray[np.float32]

TIE = 1e-3
"""Margin of a near tie: float rounding decides between two labels this close, in NeMo too.

The same value as in export_scripts/checkpoints/families.py, which needs packages that this module does without.
"""


@dataclass
class Comparison:
    """Served records compared with NeMo's.

    Attributes:
        compared: Number of recordings.
        equal: Recordings with the same text.
        ties: One line per text that differs by near ties only.
        mismatches: One line per text that differs otherwise.
    """

    compared: int = 0
    equal: int = 0
    ties: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)


def compare(served: Sequence[Record], nemo: Sequence[Record]) -> Comparison:
    """Compare served records that have log-probs with NeMo's of the same recordings."""
    comparison = Comparison()
    for ours, theirs in _pairs(served, nemo):
        comparison.compared += 1
        assert ours.log_probs is not None and theirs.log_probs is not None
        if ours.log_probs.shape != theirs.log_probs.shape:
            shapes = f"{ours.log_probs.shape}, NeMo's {theirs.log_probs.shape}"
            comparison.mismatches.append(f"{ours.audio}: log-probs are {shapes}")
            continue
        if ours.text == theirs.text:
            comparison.equal += 1
        elif margins := tie_margins(ours, theirs):
            flips = ", ".join(f"frame {frame} by {margin:.1e}" for frame, margin in margins.items())
            comparison.ties.append(f"{ours.audio}: NeMo decides {flips}")
        else:
            comparison.mismatches.append(f"{ours.audio}: {ours.text!r}, NeMo has {theirs.text!r}")
    return comparison


def compare_texts(served: Sequence[Record], nemo: Sequence[Record], judged: Sequence[Sequence[Record]]) -> Comparison:
    """Compare served records without log-probs with NeMo's.

    Without log-probs a near tie can't be recognised. A text that differs from NeMo's counts as one only if the same
    text was served with log-probs that show a near tie.

    Args:
        served: Records without log-probs.
        nemo: NeMo's records.
        judged: Records of passes with log-probs.
    """
    comparison = Comparison()
    for row, (ours, theirs) in enumerate(_pairs(served, nemo)):
        comparison.compared += 1
        if ours.text == theirs.text:
            comparison.equal += 1
        elif any(records[row].text == ours.text and tie_margins(records[row], theirs) for records in judged):
            comparison.ties.append(f"{ours.audio}: the same text as with log-probs")
        else:
            comparison.mismatches.append(f"{ours.audio}: {ours.text!r}, NeMo has {theirs.text!r}")
    return comparison


def compare_transducer(served: Sequence[Record], nemo: Sequence[Record], ties: Collection[str]) -> Comparison:
    """Compare text and tokens of served records with NeMo's.

    Args:
        served: Records of one pass.
        nemo: NeMo's records.
        ties: Recordings that judge_transducer.py lists as near ties in that pass.
    """
    comparison = Comparison()
    for ours, theirs in _pairs(served, nemo):
        comparison.compared += 1
        if is_same(ours, theirs):
            comparison.equal += 1
        elif ours.audio in ties:
            comparison.ties.append(f"{ours.audio}: the first decision that differs is a near tie")
        else:
            comparison.mismatches.append(f"{ours.audio}: {ours.text!r}, NeMo has {theirs.text!r}")
    return comparison


def is_same(ours: Record, theirs: Record) -> bool:
    """Whether text and tokens are equal."""
    return (ours.text, ours.tokens) == (theirs.text, theirs.tokens)


def tie_margins(served: Record, nemo: Record) -> dict[int, float]:
    """NeMo's margins in the frames whose best label differs, if all of them are near ties.

    Returns:
        Margins by frame. Empty if one of them is TIE or more, or if the served tokens do not follow from the served
        log-probs: then the decoder is at fault.
    """
    assert served.log_probs is not None and nemo.log_probs is not None
    if served.log_probs.shape != nemo.log_probs.shape or served.tokens != greedy_tokens(served.log_probs):
        return {}
    ours, best = served.log_probs.argmax(1), nemo.log_probs.argmax(1)
    frames = np.flatnonzero(ours != best)
    margins = nemo.log_probs[frames, best[frames]] - nemo.log_probs[frames, ours[frames]]
    if not (margins < TIE).all():
        return {}
    return {int(frame): float(margin) for frame, margin in zip(frames, margins, strict=True)}


def greedy_tokens(log_probs: LogProbs) -> list[int]:
    """CTC's best path: repeats merged, then blanks (the last label) dropped.

    Args:
        log_probs: float32 [frames, labels].
    """
    labels = log_probs.argmax(1)
    starts = np.diff(labels, prepend=-1) != 0
    return [int(label) for label in labels[starts] if label != log_probs.shape[1] - 1]


def largest_difference(ours: Sequence[Record], theirs: Sequence[Record]) -> float:
    """The largest absolute difference of all log-probs: NaN if one is NaN, infinite if the numbers of frames differ."""
    largest = 0.0
    for left, right in _pairs(ours, theirs):
        assert left.log_probs is not None and right.log_probs is not None
        if left.log_probs.shape != right.log_probs.shape:
            return float("inf")
        # Not Python's max, which would lose a NaN.
        largest = float(np.maximum(largest, np.abs(left.log_probs - right.log_probs).max(initial=0)))
    return largest


def near_ties(log_probs: LogProbs) -> int:
    """Count the frames whose two best labels are closer than TIE.

    Args:
        log_probs: float32 [frames, labels].
    """
    best = np.partition(log_probs, -2, axis=1)[:, -2:]
    return int((best[:, 1] - best[:, 0] < TIE).sum())


def _pairs(served: Sequence[Record], nemo: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Pair the records.

    Raises:
        ValueError: The two have different recordings, or another order.
    """
    if [record.audio for record in served] != [record.audio for record in nemo]:
        raise ValueError("served results and NeMo's have different recordings; make both again from one manifest")
    return list(zip(served, nemo, strict=True))
