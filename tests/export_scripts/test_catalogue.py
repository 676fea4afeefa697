"""The catalogue and what the command line makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT
from nemo.collections.asr.models import EncDecCTCModel, EncDecCTCModelBPE, EncDecRNNTBPEModel

from export_scripts.checkpoints.catalogue import CATALOGUE, NEMO_CLASSES, select
from export_scripts.checkpoints.checkpoint import KINDS


def run_export(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    """The command, with nothing downloaded before and no way to download."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **nowhere, "HOME": str(home)}
    command = [sys.executable, "export_scripts/export.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_nemo_knows_all_22_under_the_class_that_is_given() -> None:
    known = {
        (model_class.__name__, model.pretrained_model_name)
        for model_class in (EncDecCTCModel, EncDecCTCModelBPE, EncDecRNNTBPEModel)
        for model in model_class.list_available_models()
    }
    listed = {(NEMO_CLASSES[model.family], model.name) for model in CATALOGUE}
    assert len(listed) == 22
    assert listed <= known
    assert set(NEMO_CLASSES.values()) <= set(KINDS)


def test_selection() -> None:
    assert select(["a.nemo", "name", "a.nemo"]) == ({"a.nemo": True, "name": True}, [])
    gammas = [f"stt_en_citrinet_{size}_gamma_0_25" for size in (256, 512, 1024)]
    assert select(["stt_en_citrinet_*_gamma_0_25", "parakeet*"]) == (dict.fromkeys(gammas, True), ["parakeet*"])
    assert len(select([], everything=True)[0]) == 22
    some, _ = select(["stt_en_jasper10x5dr"], ["jasper", "contextnet"])
    assert len(some) == 6
    assert [name for name, named in some.items() if named] == ["stt_en_jasper10x5dr"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    file = tmp_path / "model[1].nemo"
    file.touch()
    assert select([str(file)]) == ({str(file): True}, [])


def test_list(tmp_path: Path) -> None:
    result = run_export("--list", home=tmp_path)
    assert result.returncode == 0
    assert all(model.name in result.stdout for model in CATALOGUE)


def test_all_without_network(tmp_path: Path) -> None:
    result = run_export("--all", "--repository", tmp_path / "repository", home=tmp_path / "home")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line.partition(": could not be downloaded: ")[0] for line in lines] == [
        f"error: {model.name}" for model in CATALOGUE
    ]
    assert result.stdout.startswith(f"0 of 22 models are in {tmp_path / 'repository'}; missing: stt_en_quartznet15x5, ")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--repository", "r"], "Name a CHECKPOINT, a --family or --all."),
        (["a.nemo"], "Missing option '--repository'."),
        (["x*", "--repository", "r"], "error: x*: fits none of the models in the catalogue, see --list"),
    ],
)
def test_wrong_arguments(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    result = run_export(*arguments, home=tmp_path)
    assert result.returncode == 2
    assert complaint in result.stderr
