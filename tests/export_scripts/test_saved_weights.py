"""Damaged weights are refused, because PyTorch reads them without a word."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from export_scripts.checkpoints.saved_weights import check_weights
from export_scripts.errors import RefusedFileError


def test_a_damaged_tensor_is_refused_by_its_checksum(tmp_path: Path) -> None:
    file, weight = tmp_path / "model_weights.ckpt", torch.arange(1000.0)
    torch.save(OrderedDict(weight=weight, bias=torch.ones(7), nothing=torch.zeros(0)), file)
    check_weights(file)
    content = bytearray(file.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 2001] ^= 1
    file.write_bytes(content)
    torch.load(file, weights_only=True)  # PyTorch doesn't notice.
    with pytest.raises(RefusedFileError) as refused:
        check_weights(file)
    assert str(refused.value) == (
        "model_weights.ckpt is damaged: model_weights/data/0 has another checksum than when it was saved; get the file "
        "again"
    )
