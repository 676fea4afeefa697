"""The catalogue and what the command line makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import invoke_export, run_export

from export_scripts.checkpoints.catalogue import CATALOGUE, NEMO_CLASSES, select
from export_scripts.checkpoints.families import exported_classes


def test_nemo_knows_all_22_under_the_class_that_is_given() -> None:
    from nemo.collections.asr.models import EncDecCTCModel, EncDecCTCModelBPE, EncDecRNNTBPEModel

    known = {
        (model_class.__name__, model.pretrained_model_name)
        for model_class in (EncDecCTCModel, EncDecCTCModelBPE, EncDecRNNTBPEModel)
        for model in model_class.list_available_models()
    }
    listed = {(NEMO_CLASSES[model.family], model.name) for model in CATALOGUE}
    assert len(listed) == 22
    assert listed <= known
    assert set(NEMO_CLASSES.values()) <= set(exported_classes())


@pytest.mark.fast
def test_selection() -> None:
    assert select(["a.nemo", "name", "a.nemo"]) == ({"a.nemo": True, "name": True}, [])
    gammas = [f"stt_en_citrinet_{size}_gamma_0_25" for size in (256, 512, 1024)]
    assert select(["stt_en_citrinet_*_gamma_0_25", "parakeet*"]) == (dict.fromkeys(gammas, True), ["parakeet*"])
    assert len(select([], everything=True)[0]) == 22
    some, _ = select(["stt_en_jasper10x5dr"], ["jasper", "contextnet"])
    assert len(some) == 6
    assert [name for name, named in some.items() if named] == ["stt_en_jasper10x5dr"]


@pytest.mark.fast
def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    file = tmp_path / "model[1].nemo"
    file.touch()
    assert select([str(file)]) == ({str(file): True}, [])


@pytest.mark.fast
def test_list() -> None:
    result = invoke_export("--list")
    assert result.exit_code == 0
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


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--repository", "r"], "Name a CHECKPOINT, a --family or --all."),
        (["a.nemo"], "Missing option '--repository'."),
        (["x*", "--repository", "r"], "error: x*: fits none of the models in the catalogue, see --list"),
    ],
)
def test_wrong_arguments(arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke_export(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
