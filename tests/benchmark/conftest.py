"""Results of a small benchmark, measured once for all tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_results import Finished, Measured, RunModule, interrupt
from locations import DEMO_MANIFEST, RNNT_CHECKPOINT, ROOT

from benchmark.core.model_control import EXPLICIT
from server.process import running_server


@pytest.fixture(scope="session")
def run_module() -> RunModule:
    """Run `python -m benchmark.NAME` as a user does."""

    def run(name: str, *arguments: object) -> Finished:
        command = [sys.executable, "-m", f"benchmark.{name}", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope="session")
def measured(run_module: RunModule, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Both demo models under load, and one of them compared with NeMo.

    The first run of each model is interrupted in its closed loops; the measured run resumes there.
    """
    folder = tmp_path_factory.mktemp("benchmark")
    data, results = folder / "data" / "demo", folder / "results"
    assert run_module("prepare", f"demo={DEMO_MANIFEST}", "--out", folder / "data").returncode == 0
    shared = ("--repository", repository, "--data", data, "--out", results)
    killed = interrupt(
        ["coffee_ctc", *shared, "--seconds", 0.5],
        results / "coffee_ctc" / "demo",
        lambda process: os.killpg(process.pid, signal.SIGKILL),
    )
    with running_server(repository, [EXPLICIT]) as server:
        interrupted = interrupt(
            ["coffee_rnnt", *shared, "--seconds", 0.5, "--url", server.grpc],
            results / "coffee_rnnt" / "demo",
            lambda process: server.process.kill(),
        )
    ran = run_module("run", "coffee_*", *shared, "--seconds", 0.5)
    baselines = ("--without", "pocketsphinx", "--without", "sherpa_onnx", "--rounds", 2)
    compared = run_module("compare", "coffee_rnnt", *shared, "--checkpoint", RNNT_CHECKPOINT, *baselines)
    return Measured(
        data=data,
        results=results,
        killed=killed,
        cut_short=interrupted,
        run=ran,
        compare=compared,
        score=run_module("score", results),
    )
