"""The first token among the next frames of an RNNT or TDT model, for each item of a batch.

A step of the decoder's loop computes the best labels of several frames, because the prediction stays the same until a
token is found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from export_scripts.operators.builder import Graph, Value


@dataclass(frozen=True, kw_only=True)
class Window:
    """Best labels of the next frames, if no token comes between.

    Attributes:
        label: int64 [B, frames].
        is_token: bool [B, frames], whether the label is a token of a frame within the item.
        within: bool [B, frames], false beyond an item's end.
        duration: int64 [B, frames], frames that the label lasts; None for plain RNNT.
    """

    label: Value
    is_token: Value
    within: Value
    duration: Value | None = None


@dataclass(frozen=True, kw_only=True)
class FirstToken:
    """The first token of a window.

    Attributes:
        exists: bool [B], whether there is one.
        token: int64 [B]; any label if there is none.
        ahead: int64 [B], its frame, counted from the first of the window.
        searched: Where the next step continues if there is none, counted likewise: int64 [B], or a number.
        duration: int64 [B], frames that the token lasts; None for plain RNNT.
    """

    exists: Value
    token: Value
    ahead: Value
    searched: Value | int
    duration: Value | None = None


def find_first_token(g: Graph, window: Window, frames_per_step: int, *, longest_duration: int) -> FirstToken:
    """The first token of each item, if there is one.

    Args:
        g: Body of the loop.
        window: Labels of the next frames.
        frames_per_step: Frames of the window.
        longest_duration: Largest possible duration.
    """
    if window.duration is None:
        return _first_token(g, window, frames_per_step)
    return _first_token_by_durations(g, window, window.duration, frames_per_step, longest_duration)


def _first_token(g: Graph, window: Window, frames_per_step: int) -> FirstToken:
    """The first token of plain RNNT: each blank lasts one frame."""
    # onnxruntime 1.19 has no ArgMax of int64, and its CUDA provider none of int32.
    is_token = window.is_token.astype(np.float32)
    ahead = is_token.argmax(axis=1, keepdims=True)
    return FirstToken(
        exists=is_token.max(1).astype(np.bool_),
        token=g.GatherElements(window.label, ahead, axis=1).squeeze(1),
        ahead=ahead.squeeze(1),
        searched=frames_per_step,
    )


def _first_token_by_durations(
    g: Graph, window: Window, duration: Value, frames_per_step: int, longest_duration: int
) -> FirstToken:
    """The first token of TDT: labels last as many frames as the model says, and a blank at least one.

    Positions are counted from the first frame of the window. `after` says where the search goes from each: to itself
    from a token or beyond the end of the item or the window. Applying it to itself doubles the number of its jumps.
    """
    place = np.arange(frames_per_step)
    after = g.Where(window.is_token | ~window.within, place, g.Max(duration, 1) + place)
    # CUDA has no Pad of int64, so a Where repeats the positions beyond the window for each item.
    beyond = frames_per_step + np.arange(longest_duration)
    after = g.Concat(after, g.Where(window.within[:, :1], beyond, beyond), axis=1)
    for _ in range(math.ceil(math.log2(frames_per_step)) - 1):
        after = g.GatherElements(after, after, axis=1)
    end = after[:, :1]
    if frames_per_step > 1:
        end = g.GatherElements(after, end, axis=1)
    ahead, at = end.squeeze(1), g.Min(end, frames_per_step - 1)
    exists = g.GatherElements(window.is_token, at, axis=1) & (end < frames_per_step)
    return FirstToken(
        exists=exists.squeeze(1),
        token=g.GatherElements(window.label, at, axis=1).squeeze(1),
        ahead=ahead,
        searched=ahead,
        duration=g.GatherElements(duration, at, axis=1).squeeze(1),
    )
