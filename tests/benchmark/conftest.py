"""Results of a small benchmark, measured once for all tests that read them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_results import Finished, Measured, RunModule
from locations import DEMO_MANIFEST, RNNT_CHECKPOINT, ROOT


@pytest.fixture(scope="session")
def run_module() -> RunModule:
    """Run `python -m benchmark.NAME` as a user does."""

    def run(name: str, *arguments: object) -> Finished:
        command = [sys.executable, "-m", f"benchmark.{name}", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope="session")
def measured(run_module: RunModule, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Both demo models under load on the demo's commands, and one of them beside NeMo and onnx-asr."""
    folder = tmp_path_factory.mktemp("benchmark")
    data, results = folder / "data" / "demo", folder / "results"
    assert run_module("prepare", f"demo={DEMO_MANIFEST}", "--out", folder / "data").returncode == 0
    shared = ("--repository", repository, "--data", data, "--out", results)
    ran = run_module("run", "coffee_*", *shared, "--seconds", 0.5)
    peers = ("--without", "pocketsphinx", "--without", "sherpa_onnx", "--rounds", 2)
    compared = run_module("compare", "coffee_rnnt", *shared, "--checkpoint", RNNT_CHECKPOINT, *peers)
    return Measured(data, results, ran, compared, run_module("score", results))
