"""The TDT loss, compared with NeMo's slow one, which loops over all points of the lattice."""

from __future__ import annotations

import pytest
import torch
from nemo.collections.asr.losses.rnnt_pytorch import TDTLossPytorch
from tdt_loss import tdt_loss

BLANK = 6


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Labels of three items. NeMo's loss moves its tensors to a GPU; here they stay on the CPU."""
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    torch.manual_seed(3)
    return torch.randint(0, BLANK, (3, 4))


@pytest.mark.parametrize("durations", [[0, 1, 2, 3, 4], [0, 1], [0, 1, 4], [2, 1, 0]], ids=str)
@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_loss_and_gradient(labels: torch.Tensor, durations: list[int], sigma: float) -> None:
    frames, label_lengths = torch.tensor([9, 2, 7]), torch.tensor([4, 1, 3])
    logits = torch.randn(3, 9, 5, BLANK + 1 + len(durations)).mul(2).requires_grad_()
    nemo_logits = logits.detach().clone().requires_grad_()
    loss = tdt_loss(logits, labels, frames=frames, label_lengths=label_lengths, durations=durations, sigma=sigma)
    nemo_loss = TDTLossPytorch(BLANK, durations, "mean", sigma)(
        acts=nemo_logits, labels=labels, act_lens=frames, label_lens=label_lengths
    )
    torch.testing.assert_close(loss, nemo_loss)
    torch.autograd.backward([loss, nemo_loss])
    torch.testing.assert_close(logits.grad, nemo_logits.grad, rtol=1e-4, atol=1e-6)
