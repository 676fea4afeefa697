"""Follow the steps of docs/extending.md for a decoder: change a copy of the sources as the page says, and export."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from architectures import NEW_NEMO
from command import invoke_export
from fixture_types import CheckpointFile
from locations import DEMO_MANIFEST, ROOT
from tiny_models import rewrite_config

from export_scripts.recordings import read_recordings
from export_scripts.repository.validate import check_repository
from export_scripts.verify.local_ensemble import LocalEnsemble
from nemo_triton.contract import LABELS, TOKENS, Part

NEMO_CLASS = "EncDecFrameModel"
GRAPH = Path("export_scripts", "stages", "frame_decoder.py")
FAMILIES = Path("export_scripts", "checkpoints", "families.py")
BIN = Path(sys.executable).parent


def code_of_the_page() -> list[str]:
    """The Python blocks of the section about decoders, in order."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    section = page.partition("## A decoder\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", section, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, changed by the steps of the page."""
    folder = tmp_path_factory.mktemp("walk") / "checkout"
    for package in ("export_scripts", "nemo_triton"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", folder)

    graph, imports, decoder, name = code_of_the_page()
    (folder / GRAPH).write_text(graph)
    families = (folder / FAMILIES).read_text()
    top = "from __future__ import annotations\n"
    (known,) = re.findall(r"^DECODERS: .*\n", families, re.MULTILINE)
    assert families.count(top) == 1
    families = families.replace(top, f"{top}\n{imports}").replace(known, f"{decoder}\n\n{name}")
    (folder / FAMILIES).write_text(families)
    run(folder, BIN / "ruff", "check", "-q", "--no-cache", "--fix", GRAPH, FAMILIES)
    return folder


def run(folder: Path, *command: object) -> str:
    """Run a program on the modules in `folder`; returns its output."""
    variables = {**os.environ, "PYTHONPATH": f"{folder}:{Path(__file__).parent}"}
    done = subprocess.run([*map(str, command)], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_pages_code_is_typed_and_formatted(checkout: Path) -> None:
    run(checkout, BIN / "ruff", "format", "-q", "--no-cache", "--check", GRAPH, FAMILIES)
    with (checkout / "pyproject.toml").open("a") as settings:
        # Checking PyTorch takes mypy a minute.
        settings.write('\n[[tool.mypy.overrides]]\nmodule = ["torch.*"]\nfollow_imports = "skip"\n')
    run(checkout, BIN / "mypy", "--strict", "--follow-imports=silent", "--cache-dir=mypy_cache", GRAPH, FAMILIES)


def test_a_decoder_is_a_class_and_a_line(checkpoint_file: CheckpointFile, checkout: Path, tmp_path: Path) -> None:
    checkpoint, repository, speech = tmp_path / "frames.nemo", tmp_path / "repository", tmp_path / "speech"
    checkpoint.write_bytes(checkpoint_file("citrinet", NEW_NEMO).read_bytes())
    rewrite_config(checkpoint, target=f"frame_model.{NEMO_CLASS}")
    speech.mkdir()
    for file in sorted(DEMO_MANIFEST.parent.glob("*.flac"))[:3]:
        shutil.copy2(file, speech)
    arguments = (checkpoint, "--repository", repository, "--probes", speech)

    before = invoke_export(*arguments)
    assert before.exit_code == 2
    assert f"{NEMO_CLASS} can't be exported; choose a checkpoint of EncDecCTCModel, " in before.stderr

    summary = run(checkout, sys.executable, "export_scripts/export.py", *arguments)
    assert summary.startswith("frames: ")
    assert check_repository(repository) == []
    parity = json.loads((repository / "frames" / "1" / "parity.json").read_text())
    assert parity["nemo_class"] == NEMO_CLASS
    assert parity["texts_equal"] + parity["texts_tied"] == parity["texts_compared"] == 36
    assert parity["characters"] > 60

    ensemble = LocalEnsemble(repository, Part.LOG_PROBS.of("frames"))
    for item in ensemble.run(read_recordings(speech).signals):
        count, frames = (int(item[tensor.length.name].item()) for tensor in (TOKENS, LABELS))
        tokens, labels = item[TOKENS.name][0, :count], item[LABELS.name][0, :frames]
        assert np.count_nonzero(np.diff(tokens) == 0) > 0, "repeated labels are tokens"
        assert set(tokens.tolist()) <= set(labels.tolist())
