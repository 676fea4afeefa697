"""Models beyond the 22, through export.py: FastConformers export, others are refused with one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from architectures import ARCHITECTURES, NEW_NEMO, UNIFIED, Block, Kind, fast_conformer, preprocessor
from command import invoke_export
from fixture_types import CheckpointFile
from tiny_models import read_config, rewrite_config, save_tiny_model

from export_scripts.repository.validate import check_repository

LATER: dict[str, tuple[Block, Block, Kind]] = {
    "fastconformer_ctc": (preprocessor(80, 0.025, 0), fast_conformer(), "pieces"),
    "fastconformer_rnnt": (preprocessor(80, 0.025, 0), fast_conformer(), "transducer"),
    "parakeet_tdt": (preprocessor(128, 0.025, 0), fast_conformer(128, xscaling=False, use_bias=False), "tdt"),
    "parakeet_rnnt": (preprocessor(128, 0.025, 0), fast_conformer(128, xscaling=False, use_bias=False), "transducer"),
}


@pytest.mark.parametrize("name", [*LATER, "parakeet_unified"])
def test_fast_conformers_give_nemos_text(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, repository = tmp_path / f"{name}.nemo", tmp_path / "repository"
    unified = name == "parakeet_unified"
    architecture = "parakeet_rnnt" if unified else name
    monkeypatch.setitem(ARCHITECTURES, architecture, LATER[architecture])
    save_tiny_model(architecture, NEW_NEMO, file)
    if unified:
        # NeMo 2.7.3 can't build it.
        rewrite_config(file, encoder={**read_config(file)["encoder"], **UNIFIED})
    result = invoke_export(file, "--repository", repository)
    assert (result.exit_code, result.stderr) == (0, "")
    parity = json.loads((repository / name / "1" / "parity.json").read_text())
    assert parity["texts_equal"] + parity["texts_tied"] == parity["texts_compared"] == 3 * parity["probes"]
    assert parity["characters"] > 10 * parity["probes"]
    assert check_repository(repository) == []


def changed(checkpoint: Path, part: str, file: Path, **changes: object) -> None:
    """Copy a checkpoint with changes to a part of its config."""
    file.write_bytes(checkpoint.read_bytes())
    rewrite_config(file, **{part: {**read_config(file)[part], **changes}})


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("attention", "encoder.global_tokens is 1; only 0 can be exported; choose a checkpoint without global tokens"),
        (
            "context",
            "encoder.att_context_size is [[70, 13], [70, 0]], with att_context_style chunked_limited, as in streaming ",
        ),
        (
            "normalization",
            "preprocessor.normalize is per_speaker; only per_feature, all_features, none, NA can be exported; choose ",
        ),
        ("canary", "EncDecMultiTaskModel, a multi-task model such as Canary, can't be exported; choose a CTC or RNNT "),
        ("unnamed", "its config names no class (target); save it again"),
    ],
)
def test_a_refused_model_names_its_class_or_setting(
    kind: str, complaint: str, checkpoint_file: CheckpointFile, tmp_path: Path
) -> None:
    checkpoint, file = checkpoint_file("conformer_transducer", NEW_NEMO), tmp_path / f"{kind}.nemo"
    classes = {"canary": "EncDecMultiTaskModel", "unnamed": ""}
    if kind == "attention":
        local = {"self_attention_model": "rel_pos_local_attn", "att_context_size": [64, 64], "global_tokens": 1}
        changed(checkpoint, "encoder", file, **local)
    elif kind == "context":
        streaming = {"att_context_size": [[70, 13], [70, 0]], "att_context_style": "chunked_limited"}
        changed(checkpoint, "encoder", file, **streaming)
    elif kind == "normalization":
        changed(checkpoint, "preprocessor", file, normalize="per_speaker")
    else:
        file.write_bytes(checkpoint.read_bytes())
        rewrite_config(file, target=classes[kind] and f"nemo.collections.asr.models.{classes[kind]}")
    result = invoke_export(file, "--repository", tmp_path / "repository")
    (line,) = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (2, "")
    assert line.startswith(f"error: {file}: {complaint}")
    assert not (tmp_path / "repository").exists()
