"""Judge whether a transcript of an RNNT or TDT model differs from NeMo's only by near ties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


@torch.no_grad()
def is_found_by_ties(
    model: Any, scores: np.ndarray, transcript: Sequence[tuple[int, int]], *, limit: int, tie: float
) -> bool:
    """Whether greedy search finds a transcript if near ties are decided for it, and not if they aren't.

    The search follows NeMo's greedy_batch and takes the transcript's label at each frame, which must be NeMo's best or
    a near tie. A transcript doesn't say how long a blank of TDT lasts, so each duration that is best or a near tie is
    tried.

    Args:
        model: NeMo's RNNT or TDT model.
        scores: float32 [frames, joint size], NeMo's projected encodings.
        transcript: Frame and token of each token.
        limit: Largest number of tokens per frame.
        tie: Log-prob by which the best label or duration may be ahead.
    """
    decoder, joint, blank = model.decoder, model.joint, model.decoding.blank_id
    durations = [int(duration) for duration in model.decoding.durations or ()]
    first = torch.tensor([[blank]]), decoder.initialize_state(torch.zeros(1, 1, 1))
    # Frame, tokens so far, tokens at this frame, last label and the state before it, whether a tie was needed.
    paths = [(0, 0, 0, *first, False)]
    seen = set()
    while paths:
        frame, emitted, at_frame, label, state, tied = paths.pop()
        if (frame, emitted, at_frame, tied) in seen:
            continue
        seen.add((frame, emitted, at_frame, tied))
        if frame >= len(scores):
            if emitted == len(transcript) and tied:
                return True
            continue
        predicted, after = decoder.predict(label, state, add_sos=False, batch_size=1)
        logits = joint.joint_after_projection(torch.from_numpy(scores)[None, frame : frame + 1], joint.pred(predicted))
        labels, lengths = logits.flatten().split([blank + 1, len(durations)])
        next_frame, token = transcript[emitted] if emitted < len(transcript) else (len(scores), blank)
        chosen = token if next_frame == frame else blank
        behind = float(labels.max() - labels[chosen])
        if next_frame < frame or behind >= tie:
            continue
        tied = tied or chosen != int(labels.argmax())
        is_token = chosen != blank
        if is_token:
            label, state, emitted, at_frame = torch.tensor([[chosen]]), after, emitted + 1, at_frame + 1
        # Plain RNNT has no durations: a token stays at its frame.
        places: list[int | None] = [*_close(lengths, tie)] or [None]
        for place in places:
            moves = 0 if place is None else durations[place]
            if not is_token or at_frame >= limit:
                moves = max(moves, 1)
            other = place is not None and place != int(lengths.argmax())
            paths.append((frame + moves, emitted, 0 if moves else at_frame, label, state, tied or other))
    return False


def _close(lengths: torch.Tensor, tie: float) -> list[int]:
    """Places of the best number and of those that are less than `tie` behind it."""
    return [] if not len(lengths) else torch.nonzero(lengths > lengths.max() - tie).flatten().tolist()
