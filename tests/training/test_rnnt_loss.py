"""The RNNT loss, compared with NeMo's slow one, which loops over all points of the lattice."""

from __future__ import annotations

import torch
from nemo.collections.asr.losses.rnnt_pytorch import RNNTLossPytorch
from rnnt_loss import rnnt_loss


def test_loss_and_gradient() -> None:
    torch.manual_seed(3)
    blank, frames, label_lengths = 6, torch.tensor([9, 5, 7]), torch.tensor([4, 1, 3])
    labels = torch.randint(0, blank, (3, 4))
    logits = torch.randn(3, 9, 5, 7, requires_grad=True)
    nemo_logits = logits.detach().clone().requires_grad_()
    loss = rnnt_loss(logits.log_softmax(3), labels, frames=frames, label_lengths=label_lengths, blank=blank)
    nemo_loss = RNNTLossPytorch(blank, "mean")(
        acts=nemo_logits, labels=labels, act_lens=frames, label_lens=label_lengths
    )
    torch.testing.assert_close(loss, nemo_loss)
    torch.autograd.backward([loss, nemo_loss])
    torch.testing.assert_close(logits.grad, nemo_logits.grad)
