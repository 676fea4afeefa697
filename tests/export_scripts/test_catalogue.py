"""The catalogue, and how the command line uses it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from command import invoke_export, run_export

from export_scripts import progress
from export_scripts.checkpoints import catalogue
from export_scripts.checkpoints.catalogue import CATALOGUE, NEMO_CLASSES, PUBLISHED, Model, select
from export_scripts.checkpoints.families import exported_classes


def test_nemo_lists_all_22_under_the_class_of_the_catalogue() -> None:
    from nemo.collections.asr.models import EncDecCTCModel, EncDecCTCModelBPE, EncDecRNNTBPEModel

    known = {
        (model_class.__name__, model.pretrained_model_name)
        for model_class in (EncDecCTCModel, EncDecCTCModelBPE, EncDecRNNTBPEModel)
        for model in model_class.list_available_models()
    }
    listed = {(NEMO_CLASSES[model.family], model.name) for model in PUBLISHED}
    assert len(listed) == 22
    assert listed <= known


@pytest.mark.fast
def test_every_model_has_a_name_and_a_class_that_can_be_exported() -> None:
    assert len({model.name for model in CATALOGUE}) == len(CATALOGUE)
    assert {NEMO_CLASSES[model.family] for model in CATALOGUE} <= set(exported_classes())
    assert set(NEMO_CLASSES) == set(get_args(catalogue.Family))


@pytest.mark.fast
def test_a_row_adds_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that NeMo doesn't list, in a known family."""
    new = Model("nvidia/stt_en_conformer_ctc_new", "conformer_ctc", 120.0, (2.0, 4.0))
    for module in (catalogue, progress):
        monkeypatch.setattr(module, "CATALOGUE", (*CATALOGUE, new))
    assert len(select([], everything=True)[0]) == len(CATALOGUE) + 1
    assert new.name in select([], ["conformer_ctc"])[0]
    assert select(["nvidia/*_new"]) == ({new.name: True}, [])
    assert new.name in invoke_export("--list").stdout


@pytest.mark.fast
def test_selection() -> None:
    assert select(["a.nemo", "name", "a.nemo"]) == ({"a.nemo": True, "name": True}, [])
    gammas = [f"stt_en_citrinet_{size}_gamma_0_25" for size in (256, 512, 1024)]
    assert select(["stt_en_citrinet_*_gamma_0_25", "parakeet*"]) == (dict.fromkeys(gammas, True), ["parakeet*"])
    assert list(select([], everything=True)[0]) == [model.name for model in CATALOGUE]
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
    lines = result.stdout.splitlines()
    for model in CATALOGUE:
        (row,) = (line for line in lines if model.name in line.split())
        assert str(model.word_error_rates[0]) in row and f"{model.parameters:.1f} M" in row
    assert max(map(len, lines)) <= 80
    assert "Not exported: TDT, hybrid, Canary and streaming models" in result.stdout


def test_all_without_network(tmp_path: Path) -> None:
    result = run_export("--all", "--repository", tmp_path / "repository", home=tmp_path / "home")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line.partition(": no such file, and it could not be downloaded (")[0] for line in lines] == [
        f"error: {model.name}" for model in CATALOGUE
    ]
    count, repository = len(CATALOGUE), tmp_path / "repository"
    assert result.stdout.startswith(f"0 of {count} models are in {repository}; missing: stt_en_quartznet15x5, ")
    assert not (tmp_path / "repository").exists()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--repository", "r"], "Give a CHECKPOINT, a --family or --all."),
        (["a.nemo"], "Give --repository FOLDER, the model repository to write."),
        (["x*", "--repository", "r"], "error: x*: matches no listed model; see --list"),
    ],
)
def test_wrong_arguments(arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke_export(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
