"""Packages that the benchmark commands need, and their error without them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from locations import ROOT

pytestmark = pytest.mark.fast

WITHOUT_PACKAGES = {"benchmark.studies.gpu.portable_unpack"}
"""Needs no package, so that it never reports one."""
COMMANDS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for file in (ROOT / "benchmark").rglob("*.py")
    if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("command", ["prepare", "run", "compare", "score", "report"])
def test_the_suite_is_imported_without_onnx(command: str) -> None:
    program = f"import sys\nsys.modules.update(dict.fromkeys(['onnx', 'torch', 'nemo']))\nimport benchmark.{command}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run_without_packages(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python without its installed packages (-S)."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-S", *arguments], cwd=ROOT, env=variables, capture_output=True, text=True)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - WITHOUT_PACKAGES))
def test_a_command_names_the_missing_package_and_the_environment(command: str) -> None:
    done = run_without_packages("-m", command, "--help")
    assert (done.returncode, done.stdout) == (2, "")
    line = rf"error: the module \w+ is not installed in this Python; for {re.escape(command)} activate the environment "
    assert re.fullmatch(line + r".*/bin/activate \(see docs/install\.md\)\n", done.stderr)


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("benchmark.run", "serve"),
        ("benchmark.studies.gpu", "serve"),
        ("benchmark.studies.rnnt_decoding", "export"),
        ("benchmark.baselines.baseline_models", "export"),
        ("benchmark.baselines.worker", "baselines"),
    ],
)
def test_each_command_has_its_environment(command: str, environment: str) -> None:
    assert command in COMMANDS
    assert f": . .venv/{environment}/bin/activate " in run_without_packages("-m", command).stderr


def test_a_program_that_imports_the_benchmark_gets_the_exception() -> None:
    done = run_without_packages("-c", "import benchmark.run")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'click'"
