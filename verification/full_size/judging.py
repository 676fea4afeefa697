"""When a served text is NeMo's: equal, or different only where NeMo itself decides by float rounding."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from verification.full_size.records import Record

LogProbs = NDArray[np.float32]

TIE = 1e-3
"""A frame whose two best labels are closer than this is decided by float rounding, in NeMo too.

The same rule as in export_scripts/verify/parity.py, which can't be imported without PyTorch.
"""


@dataclass
class Comparison:
    """Served records beside NeMo's.

    ties, mismatches: one line for each text that differs
    """

    compared: int = 0
    equal: int = 0
    ties: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)


def compare(served: Sequence[Record], nemo: Sequence[Record]) -> Comparison:
    """Judge each served record that has log-probs by NeMo's of the same recording."""
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
    """Judge served records without log-probs.

    A text that is not NeMo's passes as a tie only where a record in `judged` has it and is one: that
    record was served with its log-probs, which show what flipped.
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
    """Judge text and tokens of served records; `ties` names the recordings that judge_transducer.py found to be one."""
    comparison = Comparison()
    for ours, theirs in _pairs(served, nemo):
        comparison.compared += 1
        if is_same(ours, theirs):
            comparison.equal += 1
        elif ours.audio in ties:
            comparison.ties.append(f"{ours.audio}: the first decision that differs is one")
        else:
            comparison.mismatches.append(f"{ours.audio}: {ours.text!r}, NeMo has {theirs.text!r}")
    return comparison


def is_same(ours: Record, theirs: Record) -> bool:
    """Whether text and tokens are."""
    return (ours.text, ours.tokens) == (theirs.text, theirs.tokens)


def tie_margins(served: Record, nemo: Record) -> dict[int, float]:
    """The margin by which NeMo decides each frame whose best label differs; empty where that is no excuse.

    It is none where NeMo decides one of them by TIE or more, nor where the served tokens are not what
    the served log-probs say, for then the decoder is at fault.
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
    """CTC's best path of [frames, labels]: repeats merged, then blanks (the last label) dropped."""
    labels = log_probs.argmax(1)
    starts = np.diff(labels, prepend=-1) != 0
    return [int(label) for label in labels[starts] if label != log_probs.shape[1] - 1]


def largest_difference(ours: Sequence[Record], theirs: Sequence[Record]) -> float:
    """Of all log-probs, absolute; NaN where one is, and infinite where their numbers of frames differ."""
    largest = 0.0
    for left, right in _pairs(ours, theirs):
        assert left.log_probs is not None and right.log_probs is not None
        if left.log_probs.shape != right.log_probs.shape:
            return float("inf")
        # Not Python's max, which would lose a NaN.
        largest = float(np.maximum(largest, np.abs(left.log_probs - right.log_probs).max(initial=0)))
    return largest


def near_ties(log_probs: LogProbs) -> int:
    """How many frames of [frames, labels] have their two best labels closer than TIE."""
    best = np.partition(log_probs, -2, axis=1)[:, -2:]
    return int((best[:, 1] - best[:, 0] < TIE).sum())


def _pairs(served: Sequence[Record], nemo: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Raises ValueError where the two are not of the same recordings in the same order."""
    if [record.audio for record in served] != [record.audio for record in nemo]:
        raise ValueError("served results and NeMo's are of different recordings; make both again from one manifest")
    return list(zip(served, nemo, strict=True))
