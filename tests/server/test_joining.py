"""Joining the requests of a batch in the onnxruntime backend."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("backend_modules")]


def test_memory_is_kept_between_batches() -> None:
    from joining import Joiner

    joiner = Joiner()
    rows = [np.arange(6, dtype=np.float32).reshape(1, 6) + index for index in range(4)]
    first = joiner.join("X", rows)
    np.testing.assert_array_equal(first, np.concatenate(rows))
    shorter = joiner.join("X", rows[1:])
    np.testing.assert_array_equal(shorter, np.concatenate(rows[1:]))
    assert np.shares_memory(first, shorter) and shorter.flags.c_contiguous
    other = joiner.join("Y", rows)
    assert not np.shares_memory(other, shorter), "inputs of one batch are read together"
    longer = joiner.join("X", [*rows, *rows])
    np.testing.assert_array_equal(longer, np.concatenate([*rows, *rows]))


def test_other_types_and_widths() -> None:
    from joining import Joiner

    joiner = Joiner()
    joiner.join("X", [np.ones(4, np.float32)] * 2)
    numbers = joiner.join("X", [np.array([2**40, 1])] * 3)
    assert numbers.dtype == np.int64 and numbers.tolist() == [2**40, 1] * 3
    empty = joiner.join("X", [np.zeros((0, 3), np.int64)] * 2)
    assert empty.shape == (0, 3)
    texts = joiner.join("T", [np.array([b"a"], object), np.array([b"bc"], object)])
    assert texts.tolist() == [b"a", b"bc"]


def test_what_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    import joining

    joiner = joining.Joiner()
    row = np.ones(5, np.int16)
    assert joiner.join("X", [row]) is row, "a single request is not copied"
    monkeypatch.setattr(joining, "KEPT_BYTES", 16)
    large = joiner.join("X", [row, row])
    assert not np.shares_memory(large, joiner.join("X", [row, row]))
