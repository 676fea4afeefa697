"""Damaged weights are refused, because PyTorch reads them without a word."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from export_scripts.checkpoints.saved_weights import check_weights
from export_scripts.errors import RefusedFileError

WEIGHTS = OrderedDict(weight=torch.arange(1000.0), bias=torch.ones(7), nothing=torch.zeros(0))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(WEIGHTS, tmp_path / "model_weights.ckpt")
    return tmp_path / "model_weights.ckpt"


def damage(file: Path) -> None:
    """Change one byte of the largest tensor."""
    content = bytearray(file.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 2001] ^= 1
    file.write_bytes(content)


def test_a_damaged_tensor_is_refused_by_its_checksum(file: Path) -> None:
    check_weights(file)
    damage(file)
    torch.load(file, weights_only=True)  # PyTorch doesn't notice.
    with pytest.raises(RefusedFileError) as refused:
        check_weights(file)
    assert str(refused.value) == (
        "model_weights.ckpt is damaged: model_weights/data/0 has another checksum than when it was saved; get the file "
        "again"
    )
