"""The catalogue, and how the command line uses it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import invoke_export, run_export

from export_scripts import progress
from export_scripts.checkpoints import catalogue
from export_scripts.checkpoints.catalogue import CATALOGUE, FAMILIES, LATER_MODELS, PUBLISHED, find, full_name, select
from export_scripts.checkpoints.families import exported_classes
from export_scripts.checkpoints.listed_model import UNREAD, Average, Model


def nemos_list() -> dict[str, tuple[str, str]]:
    """NeMo's class and address of each model that the installed NeMo lists, by name."""
    from nemo.collections.asr.models import (
        EncDecCTCModel,
        EncDecCTCModelBPE,
        EncDecHybridRNNTCTCBPEModel,
        EncDecRNNTBPEModel,
    )

    classes = (EncDecCTCModel, EncDecCTCModelBPE, EncDecHybridRNNTCTCBPEModel, EncDecRNNTBPEModel)
    return {
        info.pretrained_model_name: (nemo_class.__name__, info.location)
        for nemo_class in classes
        for info in nemo_class.list_available_models()
    }


def test_nemo_lists_the_models_under_the_class_of_the_catalogue_or_the_catalogue_has_their_address() -> None:
    known = nemos_list()
    assert len(PUBLISHED) == 22
    for model in CATALOGUE:
        if "/" not in model.name and (model.name in known or model.location is None):
            assert known[model.name][0] == model.nemo_class, model.name


def test_addresses_are_those_of_nemos_list() -> None:
    """Later releases of NeMo may list other versions."""
    import nemo

    located = {model.name: model.location for model in CATALOGUE if model.location}
    assert len(located) == 7
    if not nemo.__version__.startswith("2.7."):
        pytest.skip("the versions are those of NeMo 2.7")
    assert located == {name: location for name, (_, location) in nemos_list().items() if name in located}


@pytest.mark.fast
def test_every_model_has_a_name_and_a_class_that_can_be_exported() -> None:
    assert len({model.name for model in CATALOGUE}) == len({model.served_as for model in CATALOGUE}) == len(CATALOGUE)
    assert {model.nemo_class for model in CATALOGUE} <= set(exported_classes())
    assert {model.family for model in CATALOGUE} == set(FAMILIES)


@pytest.mark.fast
@pytest.mark.parametrize("model", CATALOGUE, ids=lambda model: model.served_as)
def test_every_figure_has_a_source(model: Model) -> None:
    assert bool(model.word_error_rates) == bool(model.rates_source)
    assert len(model.word_error_rates) in (0, len(model.measured_on.split("/")))
    assert all(1 < rate < 15 for rate in model.word_error_rates)
    assert model.average is None or (5 < model.average.word_error_rate < 12 and model.average.source)
    assert model.licence
    assert "/" not in model.name or model.licence != UNREAD, "its page at Hugging Face names a licence"


@pytest.mark.fast
def test_known_figures() -> None:
    model = find("nvidia/parakeet-tdt-0.6b-v2")
    assert model is not None
    assert (model.decoder_kind, model.nemo_class, model.punctuated) == ("TDT", "EncDecRNNTBPEModel", True)
    assert model.average == Average(6.05, 3386) and model.rates_source == model.average.source
    assert [model.name for model in CATALOGUE if model.languages > 1] == ["nvidia/parakeet-tdt-0.6b-v3"]
    assert find("parakeet-tdt-0.6b-v2") is None


@pytest.mark.fast
def test_a_row_adds_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that NeMo doesn't list, in a known family."""
    new = Model("nvidia/stt_en_conformer_ctc_new", "conformer_ctc", 120.0, (2.0, 4.0))
    monkeypatch.setattr(catalogue, "CATALOGUE", (*CATALOGUE, new))
    monkeypatch.setattr(progress, "LATER_MODELS", (*LATER_MODELS, new))
    assert new.name in select([], ["conformer_ctc"])[0]
    assert select(["nvidia/*_new"]) == select(["stt_en_*_ctc_new"]) == ({new.name: True}, [])
    assert new.name in invoke_export("--list").stdout


@pytest.mark.fast
def test_selection() -> None:
    assert select(["a.nemo", "name", "a.nemo"]) == ({"a.nemo": True, "name": True}, [])
    gammas = [f"stt_en_citrinet_{size}_gamma_0_25" for size in (256, 512, 1024)]
    assert select(["stt_en_citrinet_*_gamma_0_25", "x*"]) == (dict.fromkeys(gammas, True), ["x*"])
    assert list(select([], everything=True)[0]) == [model.name for model in PUBLISHED]
    some, _ = select(["stt_en_jasper10x5dr"], ["jasper", "contextnet"])
    assert len(some) == 7
    assert [name for name, named in some.items() if named] == ["stt_en_jasper10x5dr"]


@pytest.mark.fast
def test_later_models_by_family_and_pattern() -> None:
    parakeets = {model.name for model in LATER_MODELS if model.name.startswith("nvidia/parakeet-")}
    assert len(parakeets) == 10
    for chosen in (select([], ["parakeet"]), select(["parakeet-*"]), select(["nvidia/parakeet-*"])):
        assert set(chosen[0]) == parakeets and chosen[1] == []
    fast = set(select([], ["fastconformer"])[0])
    assert fast == set(select(["stt_en_fastconformer_*"])[0]) and "nvidia/stt_en_fastconformer_tdt_large" in fast


@pytest.mark.fast
@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("parakeet-tdt-0.6b-v2", "nvidia/parakeet-tdt-0.6b-v2"),
        ("nvidia/parakeet-tdt-0.6b-v2", "nvidia/parakeet-tdt-0.6b-v2"),
        ("stt_en_fastconformer_ctc_large", "stt_en_fastconformer_ctc_large"),
        ("nvidia/stt_en_fastconformer_ctc_large", "nvidia/stt_en_fastconformer_ctc_large"),
        ("parakeet-not-listed", "parakeet-not-listed"),
        ("owner/parakeet-tdt-0.6b-v2", "owner/parakeet-tdt-0.6b-v2"),
        ("parakeet-tdt-0.6b-v2.nemo", "parakeet-tdt-0.6b-v2.nemo"),
    ],
)
def test_nvidia_can_be_left_out_of_a_listed_name(argument: str, name: str) -> None:
    assert full_name(argument) == name
    assert select([argument]) == ({name: True}, [])


@pytest.mark.fast
def test_a_file_goes_before_a_listed_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("parakeet-tdt-0.6b-v2").touch()
    assert full_name("parakeet-tdt-0.6b-v2") == "parakeet-tdt-0.6b-v2"


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
        assert all(str(rate) in row for rate in model.word_error_rates)
        assert model.parameters is None or f" {model.parameters:g} " in row
        assert model.average is None or f" {model.average.word_error_rate:.2f} " in row
        assert model.punctuated == ("+" in row.split())
    assert max(map(len, lines)) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in result.stdout, "nothing is cut off"
    assert "Not exported: Canary and other multi-task models, streaming models." in result.stdout
    assert "Multilingual: parakeet-tdt-0.6b-v3 (25 languages)." in result.stdout


@pytest.mark.fast
def test_list_of_one_family() -> None:
    listed = invoke_export("--list", "--family", "parakeet").stdout
    for model in CATALOGUE:
        assert (f" {model.name} " in listed) == (model.family == "parakeet")
    assert "the 22, by --family" not in listed


def test_all_without_network(tmp_path: Path) -> None:
    result = run_export("--all", "--repository", tmp_path / "repository", home=tmp_path / "home")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line.partition(": no such file, and it could not be downloaded (")[0] for line in lines] == [
        f"error: {model.name}" for model in PUBLISHED
    ]
    repository = tmp_path / "repository"
    assert result.stdout.startswith(f"0 of 22 models are in {repository}; missing: stt_en_quartznet15x5, ")
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
