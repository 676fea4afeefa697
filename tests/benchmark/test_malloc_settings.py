"""The comparison of malloc's settings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from rich.console import Console

from benchmark.studies.malloc_settings import MIB, SETTINGS, Measured, cpu_times, environment, table

pytestmark = pytest.mark.fast


def test_ratios_are_taken_within_each_round() -> None:
    first, second, third = SETTINGS
    rounds = [
        {first: Measured(0.03, 0.01, 400 * MIB), second: Measured(0.04, 0.01, 200 * MIB), third: Measured(0, 0.01, 0)},
        {first: Measured(0.05, 0.03, 400 * MIB), second: Measured(0.04, 0.02, 300 * MIB), third: Measured(0, 0.04, 0)},
    ]
    console = Console(width=200, record=True)
    console.print(table(rounds))
    (row,) = [line for line in console.export_text().splitlines() if second in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[1:] == ["55.0", "15.0", "1.00 (0.75 to 1.25)", "250", "0.62 (0.50 to 0.75)"]


def test_the_environment_is_set_for_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with environment({"MALLOC_TRIM_THRESHOLD_": "1"}):
        assert os.environ["MALLOC_TRIM_THRESHOLD_"] == "1" and "MALLOC_ARENA_MAX" not in os.environ
    assert os.environ["MALLOC_ARENA_MAX"] == "3" and "MALLOC_TRIM_THRESHOLD_" not in os.environ


def test_cpu_times_include_children() -> None:
    before = cpu_times(os.getpid())
    program = "import sys, time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert sum(cpu_times(os.getpid())) - sum(before) >= 0.45
        child.communicate()
