"""What the benchmark's five commands need."""

from __future__ import annotations

import subprocess
import sys

import pytest
from locations import ROOT

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("command", ["prepare", "run", "compare", "score", "report"])
def test_the_suite_is_imported_without_onnx(command: str) -> None:
    program = f"import sys\nsys.modules.update(dict.fromkeys(['onnx', 'torch', 'nemo']))\nimport benchmark.{command}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
