"""The import contracts in pyproject.toml, and that nothing imports a program."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import tomllib
from locations import ROOT

pytestmark = pytest.mark.fast

PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
INSTALLED = {
    "nemo_triton.commands.bench": {"nemo_triton.commands.main"},
    "nemo_triton.commands.models": {"nemo_triton.commands.main"},
    "nemo_triton.commands.transcribe": {"nemo_triton.commands.main"},
}
"""Programs that the command `nemo-triton` imports."""
STANDALONE = {"benchmark.studies.gpu.portable_unpack", "server.launch", "server.orphans"}
"""Modules that also run as files: on another machine, as an installed command, next to a server."""


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [f"{sys.prefix}/bin/lint-imports", "--no-cache"]
    variables = {"PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def test_the_import_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("nemo_triton/audio.py", "import nemo_triton.loadtest.wer", "The library knows no load test"),
        ("nemo_triton/transcript.py", "import benchmark.core", "What other programs import needs nothing"),
        ("server/process.py", "import benchmark.core", "The server imports nothing of ours"),
        ("server/orphans.py", "import nemo_triton.errors", "The server imports nothing of ours"),
        ("export_scripts/errors.py", "import benchmark.core", "The export takes the contract"),
        ("export_scripts/percentage.py", "import nemo_triton.tls", "The export takes the contract"),
        ("nemo_triton/loadtest/wer.py", "import rich", "Only terminal and commands print"),
        ("export_scripts/stages/text.py", "import export_scripts.chain", "The rooms of the export"),
        ("benchmark/score.py", "import export_scripts.errors", "The suite needs neither the export"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(module: str, line: str, contract: str, tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.flac", "__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    broken = re.findall(r"^(.*) BROKEN", done.stdout, re.MULTILINE)
    assert any(name.startswith(contract) for name in broken)


def test_no_module_imports_a_program() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    programs = {
        module
        for module in graph.modules
        for file in [(ROOT / Path(*module.split("."))).with_suffix(".py")]
        if file.exists() and 'if __name__ == "__main__"' in file.read_text(encoding="utf-8")
    }
    assert {"export_scripts.export", "benchmark.run", "verification.full_size.verify"} <= programs
    importers = {module: graph.find_modules_that_directly_import(module) for module in programs - STANDALONE}
    assert {module: names for module, names in importers.items() if names - INSTALLED.get(module, set())} == {}
