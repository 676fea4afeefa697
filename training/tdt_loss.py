"""The TDT loss in plain PyTorch, fast enough on a CPU for small vocabularies."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def tdt_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    frames: torch.Tensor,
    label_lengths: torch.Tensor,
    durations: Sequence[int],
    sigma: float,
) -> torch.Tensor:
    """Mean negative log-likelihood per label.

    A label of duration 0 stays in its frame: a cumulative log-sum-exp over labels adds these. All other arcs come from
    earlier frames. So the loop runs over frames only.

    Args:
        logits: float32 [B, frames, labels + 1, classes + durations]; the last class is the blank.
        labels: int64 [B, labels].
        frames: int64 [B], valid frames of each item.
        label_lengths: int64 [B], valid labels of each item.
        durations: Frames to advance, 0 and 1 among them. A blank advances by at least 1.
        sigma: Subtracted from the log-probability of every label and blank, so that paths of few, long steps win.

    Source: Xu et al. 2023, "Efficient sequence transduction by jointly predicting tokens and durations".
    """
    scores = logits[..., : -len(durations)].log_softmax(dim=3) - sigma
    duration_scores = logits[..., -len(durations) :].log_softmax(dim=3)
    chosen = labels[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
    emits = scores[:, :, :-1].gather(3, chosen).squeeze(3)
    staying = torch.nn.functional.pad((emits + duration_scores[:, :, :-1, durations.index(0)]).cumsum(dim=2), (1, 0))
    # The arcs that end at each label: blanks, and labels from one label before.
    arriving_labels = torch.nn.functional.pad(emits, (1, 0), value=-torch.inf)
    arcs = torch.stack([scores[..., -1], arriving_labels], dim=2)
    arc_durations = torch.stack([duration_scores, torch.nn.functional.pad(duration_scores, (0, 0, 1, -1))], dim=2)
    leaving = (arcs[..., None] + arc_durations).unbind(dim=1)
    moves = [(index, duration) for index, duration in enumerate(durations) if duration > 0]

    alpha = staying[:, 0]
    alphas, sources = [alpha], [_both(alpha)]
    for frame in range(1, logits.shape[1]):
        arriving = [
            sources[frame - duration] + leaving[frame - duration][..., index]
            for index, duration in moves
            if duration <= frame
        ]
        total = torch.cat(arriving, dim=1).logsumexp(dim=1)
        alpha = staying[:, frame] + torch.logcumsumexp(total - staying[:, frame], dim=1)
        alphas.append(alpha)
        sources.append(_both(alpha))
    blanks = torch.stack(alphas, dim=1) + scores[..., -1]
    rows = torch.arange(len(labels))
    ends = []
    for index, duration in moves:
        last = (frames - duration).clamp(min=0)
        end = blanks[rows, last, label_lengths] + duration_scores[rows, last, label_lengths, index]
        ends.append(end.masked_fill(frames < duration, -torch.inf))
    likelihood = torch.stack(ends, dim=1).logsumexp(dim=1)
    return -(likelihood / label_lengths.clamp(min=1)).mean()


def _both(alpha: torch.Tensor) -> torch.Tensor:
    """The forward variable [B, labels + 1] as the sources of the arcs to each label, [B, 2, labels + 1].

    A blank keeps the label's number. A label raises it by one, and none arrives at the first.
    """
    return torch.stack([alpha, torch.nn.functional.pad(alpha, (1, -1))], dim=1)
