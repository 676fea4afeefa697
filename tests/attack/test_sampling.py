"""Sampling in a thread."""

from __future__ import annotations

import threading
import time

import pytest

from verification.sampling import SHARE, Sampling


@pytest.mark.fast
def test_a_slow_function_runs_for_a_part_of_the_time() -> None:
    calls: list[tuple[float, float]] = []
    enough = threading.Event()

    def sample() -> None:
        started = time.monotonic()
        time.sleep(0.02)
        calls.append((started, time.monotonic()))
        if len(calls) == 3:
            enough.set()

    with Sampling(sample, 0.001):
        assert enough.wait(60)
    (began, ended), (following, _), *_ = calls
    assert following - began >= (ended - began) / SHARE
