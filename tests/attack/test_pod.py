"""A server with the memory of a pod, and one with too little. Needs root, as control groups do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="control groups and mounts need root")


def in_a_pod(repository: Path, *options: str) -> tuple[int, dict[str, object]]:
    """Exit code and result of 16 concurrent requests of 20 seconds by default."""
    command = [sys.executable, "-m", "verification.pod.longest_audio", "coffee_ctc", "--repository", str(repository)]
    done = subprocess.run([*command, "--seconds", "20", *options], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_enough_memory(repository: Path) -> None:
    code, result = in_a_pod(repository, "--memory", "2", "--shared-memory", "0.25")
    assert (code, result["answered"], result["errors"], result["killed"]) == (0, 16, [], 0)
    assert 0 < int(str(result["peak_bytes"])) <= 2 * 2**30
    assert 2**20 < int(str(result["peak_shared_memory_bytes"])) < 2**28


@pytest.mark.parametrize(("option", "killed"), [(("--memory", "0.35"), True), (("--shared-memory", "0.015"), False)])
def test_too_little_memory(repository: Path, option: tuple[str, str], killed: bool) -> None:
    code, result = in_a_pod(repository, "--seconds", "60", *option)
    assert code == 1
    assert result["errors"]
    assert (result["killed"] != 0) == killed
