"""Commands and library in a Python without their packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT

pytestmark = pytest.mark.fast


def python(*arguments: str, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run this Python without its packages (-S), except those in the folder `path`."""
    variables = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, "-S", *arguments], cwd=ROOT, env=variables, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["bench", "transcribe"])
def test_a_command_names_the_missing_module_and_the_environment(name: str, tmp_path: Path) -> None:
    done = python(f"client/{name}.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"error: the module \w+ is not installed in this Python; activate ", done.stderr)
    assert ". .venv/serve/bin/activate" in done.stderr and done.stderr.count("\n") == 1
    assert "the module nemo_triton is not installed" in python(f"client/{name}.py", path=tmp_path).stderr


@pytest.mark.parametrize("name", ["bench", "transcribe"])
def test_the_library_raises_a_normal_import_error(name: str) -> None:
    done = python("-c", f"import nemo_triton.commands.{name}")
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named" in done.stderr.splitlines()[-1]
