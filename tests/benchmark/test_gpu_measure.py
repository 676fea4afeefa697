"""measure.sh calls existing commands with existing options."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from locations import ROOT

pytestmark = pytest.mark.fast

SCRIPT = ROOT / "benchmark" / "studies" / "gpu" / "measure.sh"
COMMANDS = {"unpack": "main", "texts": "main", "stages": "main", "sweep": "sweep"}
"""Click commands of the modules. pytorch_encoder is missing: it needs PyTorch, which this environment lacks."""


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A fake Python that records its arguments, one JSON list per line, and fails for `texts`."""
    file = tmp_path / "python"
    file.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "sys.exit(3 if sys.argv[2].endswith('.texts') else 0)\n"
    )
    file.chmod(0o755)
    return file


def test_every_step_is_a_command_with_these_options(recorder: Path, tmp_path: Path) -> None:
    packed, models, results = (tmp_path / name for name in ("packed", "models", "results"))
    packed.mkdir()
    (models / "served").mkdir(parents=True)
    (models / "served" / "one.json").write_text("{}")
    command = ["bash", str(SCRIPT), *map(str, (packed, models, results)), "500", str(recorder)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert "NEMO_PYTHON is not set" in ended.stderr
    assert (results / "served" / "one.json").exists()
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    modules = [module.rpartition(".")[2] for _, module, *_ in calls]
    assert modules == ["unpack", "texts", *["sweep"] * 5, "stages", "unpack", "stages"]
    for _, module, *arguments in calls:
        run = getattr(importlib.import_module(module), COMMANDS[module.rpartition(".")[2]])
        assert isinstance(run, click.Command)
        run.make_context(module, list(arguments))


def test_without_arguments_it_prints_its_usage() -> None:
    ended = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
    assert ended.returncode == 2
    assert "measure.sh PACKED MODELS RESULTS SECONDS" in ended.stderr
