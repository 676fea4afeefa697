"""The command that `python -m server.install` writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT

from server.install import write_command
from server.python_library import LaunchError

pytestmark = pytest.mark.fast


def test_the_command_starts_the_server_from_anywhere(tmp_path: Path) -> None:
    command = tmp_path / "tritonserver"
    for _ in range(2):
        write_command(command)
    result = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert "--model-repository" in result.stdout + result.stderr


def test_another_tritonserver_is_not_overwritten(tmp_path: Path) -> None:
    command = tmp_path / "tritonserver"
    command.write_bytes(b"\x7fELF of NVIDIA's")
    with pytest.raises(LaunchError, match=r"another tritonserver is installed here; use a separate"):
        write_command(command)
    assert command.read_bytes() == b"\x7fELF of NVIDIA's"


def test_an_environment_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"tritonserver: can't be written: No such file or directory"):
        write_command(tmp_path / "none" / "tritonserver")


def test_a_python_without_triton_says_what_to_install() -> None:
    # -S: without the environment's packages.
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-S", "-m", "server.install"], cwd=ROOT, env=variables, capture_output=True, text=True
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and "package nvidia-pytriton" in line
