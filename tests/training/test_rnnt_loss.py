"""The transducer loss against NeMo's slow one, which goes through the lattice point by point."""

from __future__ import annotations

import torch
from nemo.collections.asr.losses.rnnt_pytorch import RNNTLossPytorch
from rnnt_loss import rnnt_loss


def test_loss_and_gradient() -> None:
    torch.manual_seed(3)
    blank, frames, label_lengths = 6, torch.tensor([9, 5, 7]), torch.tensor([4, 1, 3])
    labels = torch.randint(0, blank, (3, 4))
    ours = torch.randn(3, 9, 5, 7, requires_grad=True)
    nemos = ours.detach().clone().requires_grad_()
    loss = rnnt_loss(ours.log_softmax(3), labels, frames=frames, label_lengths=label_lengths, blank=blank)
    truth = RNNTLossPytorch(blank, "mean")(acts=nemos, labels=labels, act_lens=frames, label_lens=label_lengths)
    torch.testing.assert_close(loss, truth)
    torch.autograd.backward([loss, truth])
    torch.testing.assert_close(ours.grad, nemos.grad)
