"""Hybrids of a transducer and CTC: two recognizers of one checkpoint, which share its encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nemo
import pytest
from architectures import CHARACTERS, HYBRID, NEW_NEMO, Block, Kind
from command import invoke_export
from fixture_types import CheckpointFile, OpenCheckpoint
from snapshots import snapshot
from test_saved_decoding import saved_by
from tiny_models import read_config, rewrite_config, save_tiny_model, tiny_model

from export_scripts.checkpoints.activations import measure_activations
from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.checkpoints.families import HybridCtcDecoder
from export_scripts.checkpoints.nemo_reference import nemo_reference
from export_scripts.checkpoints.restore import restore_file
from export_scripts.checkpoints.saved_decoding import unknown_settings
from export_scripts.errors import ExportError
from export_scripts.operators.tuning import CPU
from export_scripts.precision.fp16 import last_layers
from export_scripts.repository.config import read_config as read_model_config
from export_scripts.repository.validate import check_repository
from export_scripts.stages.encoder import LengthKeepingEncoder, trace
from export_scripts.verify.probes import read_probes
from nemo_triton.contract import ENCODED, LOG_PROBS

TINY = "fastconformer_hybrid"
SPEECH = read_probes(None).recordings.first(2).signals[1]


def steps(repository: Path, name: str) -> list[str]:
    return [step.model_name for step in read_model_config(repository / name).ensemble_scheduling.step]


@pytest.mark.parametrize(("kind", "target"), [("hybrid", "cpu"), ("hybrid_tdt", "gpu"), ("hybrid_characters", "cpu")])
def test_both_heads_give_nemos_text(kind: Kind, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    front_end, encoder, _ = HYBRID[TINY]
    monkeypatch.setitem(HYBRID, TINY, (front_end, encoder, kind))
    monkeypatch.setattr("tiny_models.ARCHITECTURES", HYBRID)
    file, repository = tmp_path / "speech.nemo", tmp_path / "repository"
    save_tiny_model(TINY, NEW_NEMO, file)
    result = invoke_export(file, "--repository", repository, "--target", target)
    assert (result.exit_code, result.stderr) == (0, "")
    texts = {}
    for name, scores in (("speech", ENCODED), ("speech_ctc", LOG_PROBS)):
        parity = json.loads((repository / name / "1" / "parity.json").read_text())
        assert parity["texts_equal"] + parity["texts_tied"] == parity["texts_compared"] == 3 * parity["probes"]
        assert parity["characters"] > 10 * parity["probes"]
        assert (parity["model"], parity["scores"]) == (name, scores.name)
        assert steps(repository, name)[-2:] == ["speech_encoder", f"{name}_decoder"]
        texts[name] = parity["characters"]
    assert texts["speech"] != texts["speech_ctc"], "the heads are not the same"
    assert {path.name.removeprefix("speech") for path in repository.glob("speech*")} == {
        *("", "_float", "_encoder", "_decoder"),
        *("_ctc", "_ctc_float", "_ctc_log_probs", "_ctc_float_log_probs", "_ctc_decoder"),
    }
    assert check_repository(repository) == []


def test_the_last_layers_of_both_heads_stay_in_float32(checkpoint: OpenCheckpoint) -> None:
    opened = checkpoint(TINY)
    module = LengthKeepingEncoder(opened.model.encoder, [decoder.head() for decoder in opened.decoders])
    traced, widths = trace(module, opened.front_end.mels, CPU)
    assert widths == [28, len(opened.pieces) + 1]
    assert sorted(name.split("/")[1] for name in last_layers(traced.graph)) == ["heads.0", "heads.1"]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_reduced_precisions(precision: str, checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    file, repository = checkpoint_file(TINY, NEW_NEMO), tmp_path / "repository"
    result = invoke_export(file, "--repository", repository, "--precision", precision, "--max-word-change", "100%")
    assert (result.exit_code, result.stderr) == (0, "")
    for name in (file.stem, f"{file.stem}_ctc"):
        parity = json.loads((repository / name / "1" / "parity.json").read_text())
        assert (parity["precision"], parity["mismatches"]) == (precision, [])


def test_the_memory_of_both_heads_counts(checkpoint: OpenCheckpoint) -> None:
    opened = checkpoint(TINY)
    frame_rate = opened.front_end.frame_rate / 8
    width = 28 + len(opened.pieces) + 1
    assert measure_activations(opened).scores == pytest.approx(4 * width * frame_rate, rel=0.03)


def with_aux_ctc(checkpoint: Path, file: Path, **changes: object) -> Path:
    """Copy a hybrid checkpoint with changes to the CTC section of its config."""
    shutil.copyfile(checkpoint, file)
    rewrite_config(file, aux_ctc={**read_config(file)["aux_ctc"], **changes})
    return file


def ctc_text(file: Path) -> str:
    opened = open_checkpoint(str(file))
    (decoder,) = (decoder for decoder in opened.decoders if isinstance(decoder, HybridCtcDecoder))
    return nemo_reference(opened, decoder, SPEECH).text


@pytest.mark.parametrize("strategy", ["greedy", "greedy_batch", "beam"])
@pytest.mark.parametrize("release", ["2.5", "3.0"])
def test_each_release_opens_with_the_same_text(
    strategy: str, release: str, checkpoint_file: CheckpointFile, tmp_path: Path
) -> None:
    checkpoint = checkpoint_file(TINY, NEW_NEMO)
    section = saved_by(release, "conformer") | {"strategy": strategy}
    file = with_aux_ctc(checkpoint, tmp_path / checkpoint.name, decoding=section)
    text = ctc_text(file)
    assert text and text == ctc_text(checkpoint)


def test_the_ctc_section_is_checked_as_the_others(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    checkpoint, file = checkpoint_file(TINY, NEW_NEMO), tmp_path / "model.nemo"
    head: Block = read_config(checkpoint)["aux_ctc"]["decoder"]
    version = nemo.__version__
    tags = "; the export doesn't remove language tags from a text: set it to false in the config"
    file_name = ", which the export doesn't read; set it to null in the config"
    for changes, complaint in (
        ({"decoding": {"strip_lang_tags": True}}, f"aux_ctc.decoding.strip_lang_tags is True{tags}"),
        ({"decoder": {**head, "_target_": "os.system"}}, "aux_ctc.decoder._target_ names os.system, which is no part"),
        ({"decoder": {**head, "later": 3}}, f"aux_ctc.decoder.later is 3, which NeMo {version} doesn't know; choose"),
        ({"weights_path": "a.ckpt"}, f"aux_ctc.weights_path names the file a.ckpt{file_name}"),
    ):
        with pytest.raises(ExportError) as error:
            restore_file(with_aux_ctc(checkpoint, file, **changes))
        assert str(error.value).startswith(f"{file}: {complaint}")
    opened = restore_file(with_aux_ctc(checkpoint, file, decoder={**head, "later": None}))
    assert type(opened).__name__ == "EncDecHybridRNNTCTCBPEModel"
    aux_ctc = {"decoding": {"search": 2, "greedy": {"penalty": 0.5}}}
    assert unknown_settings({"aux_ctc": aux_ctc}) == [
        "aux_ctc.decoding.search: 2",
        "aux_ctc.decoding.greedy.penalty: 0.5",
    ]


def test_a_head_with_other_labels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_file: CheckpointFile
) -> None:
    front_end, encoder, _ = HYBRID[TINY]
    monkeypatch.setitem(HYBRID, TINY, (front_end, encoder, "hybrid_characters"))
    monkeypatch.setattr("tiny_models.ARCHITECTURES", HYBRID)
    model: Any = tiny_model(TINY, NEW_NEMO)
    model.cfg.aux_ctc.decoder.vocabulary = CHARACTERS[::-1]
    model.save_to(str(tmp_path / "model.nemo"))
    with pytest.raises(ExportError) as error:
        open_checkpoint(str(tmp_path / "model.nemo"))
    assert "aux_ctc.decoder.vocabulary differs from the labels of the main head; only a hybrid" in str(error.value)


def test_neither_recognizer_replaces_another_kind(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    repository = tmp_path / "repository"

    def export(architecture: str, name: str) -> Any:
        shutil.copyfile(checkpoint_file(architecture, NEW_NEMO), tmp_path / f"{name}.nemo")
        return invoke_export(tmp_path / f"{name}.nemo", "--repository", repository)

    assert export(TINY, "speech").exit_code == 0
    again = export(TINY, "speech")
    assert again.exit_code == 0 and "replaced speech (fp32) and speech_ctc (fp32)" in again.stdout
    before = snapshot(repository)
    for architecture, name, difference in (
        ("conformer", "speech_ctc", "with another encoder (speech_encoder)"),
        (TINY, "speech_ctc", "with another encoder (speech_encoder)"),
        ("conformer_transducer", "speech", "of another class (EncDecHybridRNNTCTCBPEModel)"),
    ):
        refused = export(architecture, name)
        assert refused.exit_code == 2
        assert f"the repository has a {name} {difference}; add a --name-suffix" in refused.stderr
        assert snapshot(repository) == before
    shutil.rmtree(repository)
    (repository / "speech_ctc").mkdir(parents=True)
    refused = export(TINY, "speech")
    assert refused.exit_code == 2 and "has a speech_ctc that is no recognizer; add a" in refused.stderr
    shutil.rmtree(repository)
    assert export("conformer", "speech_ctc").exit_code == 0
    refused = export(TINY, "speech")
    assert refused.exit_code == 2 and "a speech_ctc with another encoder (speech_ctc_encoder); add a" in refused.stderr
