"""The page and chart of batching methods."""

from __future__ import annotations

import pytest

from benchmark.baselines.system import Measured
from benchmark.studies.batching.chart import chart
from benchmark.studies.batching.report import markdown
from benchmark.studies.batching.sweep import NEMO, Sweep

pytestmark = pytest.mark.fast

PASSES = [
    {"ours": Measured(1.0, {"a": "x", "b": "y"}, [0.1, 0.3], 2.0), NEMO: Measured(3.0, {"a": "x", "b": "z"})},
    {"ours": Measured(2.0, {"a": "x", "b": "y"}, [0.1, 0.3], 2.0), NEMO: Measured(8.0, {"a": "x", "b": "z"})},
]


def test_speedups_are_taken_within_rounds() -> None:
    sweep = Sweep("read", 2, 12.0, 32, {"ours": None, NEMO: None}, PASSES)
    drawn = chart([sweep], "batching")
    text = markdown("model", "A note.", [sweep], drawn)
    assert "| ours | 9 |  | 200 | 300 | 2.0 | - | 1/2 |" in text
    assert "## read: 32 concurrent requests" in text
    assert f"| {NEMO} | 3 | 3.50 (3.00 to 4.00) | - | - | - | - | 2/2 |" in text
    files = drawn.files()
    assert set(files) == {"batching_light.svg", "batching_dark.svg"} and all(name in text for name in files)
    for svg in files.values():
        assert "read: 32 concurrent requests" in svg and "seconds of audio per second" in svg


def test_a_method_that_is_not_run_has_its_reason() -> None:
    sweep = Sweep("read", 2, 12.0, 32, {"ours": None}, PASSES, {NEMO: "no package nemo"})
    drawn = chart([sweep], "batching")
    text = markdown("model", "A note.", [sweep], drawn)
    assert "| ours | 9 |  | 200 | 300 | 2.0 | - | - |" in text
    assert f"| {NEMO} | not run: no package nemo |  |  |  |  |  |  |" in text
