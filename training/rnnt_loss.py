"""The RNNT loss in plain PyTorch, fast enough on a CPU for small vocabularies."""

from __future__ import annotations

import torch


def rnnt_loss(
    log_probs: torch.Tensor, labels: torch.Tensor, *, frames: torch.Tensor, label_lengths: torch.Tensor, blank: int
) -> torch.Tensor:
    """Mean negative log-likelihood per label.

    A cumulative log-sum-exp over labels computes the forward variable of a frame from the previous frame, so the loop
    runs over frames only.

    Args:
        log_probs: float32 [B, frames, labels + 1, classes].
        labels: int64 [B, labels].
        frames: int64 [B], valid frames of each item.
        label_lengths: int64 [B], valid labels of each item.
        blank: Class of the blank.

    Source: Graves 2012, "Sequence transduction with recurrent neural networks".
    """
    blanks = log_probs[..., blank]
    emits = log_probs[:, :, :-1].gather(3, labels[:, None, :, None].expand(-1, log_probs.shape[1], -1, 1)).squeeze(3)
    emitted = torch.nn.functional.pad(emits.cumsum(dim=2), (1, 0))
    alpha = emitted[:, 0]
    alphas = [alpha]
    for frame in range(1, log_probs.shape[1]):
        arriving = alpha + blanks[:, frame - 1]
        alpha = emitted[:, frame] + torch.logcumsumexp(arriving - emitted[:, frame], dim=1)
        alphas.append(alpha)
    rows = torch.arange(len(labels))
    last = frames - 1
    final = torch.stack(alphas, dim=1)[rows, last, label_lengths] + blanks[rows, last, label_lengths]
    return -(final / label_lengths.clamp(min=1)).mean()
