"""Which room of the benchmark may import which, and what its five commands need."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import ROOT

pytestmark = pytest.mark.fast

COMMANDS = ("prepare", "run", "compare", "score", "report")
ROOMS = ("core", "data", "baselines", "measuring", "reporting", "studies")
ALLOWED = {
    "core": {"core"},
    "data": {"core", "data"},
    "baselines": {"core", "baselines"},
    "measuring": {"core", "data", "baselines", "measuring"},
    "reporting": {"core", "reporting"},
    "studies": {"core", "data", "baselines", "studies"},
    "commands": {"core", "data", "measuring", "reporting"},
}
"""What each room imports of the benchmark."""
NEEDS_A_CHECKPOINT = {"studies", "baselines/baseline_models.py", "baselines/in_process.py"}
"""What imports the export; the catalogue, pure data, may be read by reports."""
STANDALONE = {"benchmark.studies.gpu.portable_unpack"}
"""Copied to another machine as it is, so that it can import nothing."""
FILES = sorted((ROOT / "benchmark").rglob("*.py"))


def room_of(file: Path) -> str:
    first = file.relative_to(ROOT / "benchmark").parts[0]
    return first if first in ROOMS else "commands"


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def is_command(module: str) -> bool:
    """Whether it is a module of the benchmark that runs as a program."""
    file = (ROOT / Path(*module.split("."))).with_suffix(".py")
    return module not in STANDALONE and file.exists() and 'if __name__ == "__main__"' in file.read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_imports_the_rooms_below_it(file: Path) -> None:
    imported = set(imports(file))
    rooms = {module.split(".")[1] for module in imported if module.startswith("benchmark.")}
    assert rooms <= ALLOWED[room_of(file)]
    assert [module for module in imported if module.startswith("benchmark") and is_command(module)] == []
    assert [module for module in imported if module.startswith(("client", "nemo_triton.commands"))] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_studies_and_checkpoints_need_the_export(file: Path) -> None:
    inside = file.relative_to(ROOT / "benchmark")
    exports = {module for module in imports(file) if module.startswith("export_scripts")}
    catalogue = {module for module in exports if module.startswith("export_scripts.checkpoints.catalogue")}
    assert exports == catalogue or {room_of(file), inside.as_posix()} & NEEDS_A_CHECKPOINT
    assert not catalogue or room_of(file) in ("reporting", "studies")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_suite_is_imported_without_onnx(command: str) -> None:
    program = f"import sys\nsys.modules.update(dict.fromkeys(['onnx', 'torch', 'nemo']))\nimport benchmark.{command}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
