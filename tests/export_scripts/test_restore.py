"""Checkpoints that NeMo saved, also as it saved them years ago, are restored with all their weights."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from architectures import NEW_NEMO, Block
from fixture_types import CheckpointFile
from nemo.collections.asr.models import ASRModel
from tiny_models import read_config, rewrite_config

from export_scripts.checkpoints.restore import restore_file

TRAINING: Block = {
    "train_ds": {
        "manifest_filepath": "/data/train.json",
        "augmentor": {"noise": {"manifest_path": "/data/noise.json"}},
    },
    "validation_ds": {"manifest_filepath": ["/data/dev.json"], "use_start_end_token": False},
    "optim": {
        "_target_": "torch.optim.AdamW",
        "sched": {"name": "NoamAnnealing", "_target_": "nemo.core.optim.lr_scheduler.NoamAnnealing"},
    },
    "trainer": {"callbacks": [{"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": "/results"}]},
    "exp_manager": {"exp_dir": "/results", "checkpoint_callback_params": {"monitor": "val_wer"}},
    "aux_ctc": {"decoder": {"_target_": "nemo.collections.asr.modules.ConvASRDecoder"}},
}
"""Sections of a training, which a published checkpoint still has."""


def old_form(section: Block) -> Block:
    """A section as in configs before Hydra 1.0."""
    return {"cls": section["_target_"], "params": {key: value for key, value in section.items() if key != "_target_"}}


def from_2021(checkpoint: Path, file: Path) -> None:
    """Copy a checkpoint as NeMo 1.0 saved it: gzipped, with old forms and the paths of the machine that trained it."""
    file.write_bytes(checkpoint.read_bytes())
    config = read_config(file)
    paths = {key: str(value).replace("nemo:", "/trained/by/us/") for key, value in config["tokenizer"].items()}
    rewrite_config(
        file,
        **TRAINING,
        tokenizer={**paths, "dir": "/trained/by/us"},
        preprocessor=old_form(config["preprocessor"]),
        decoding={"strategy": "greedy", "greedy": {"max_symbols": 3}, "beam": {"kenlm_path": "/lm/4gram.arpa"}},
    )
    file.write_bytes(gzip.compress(file.read_bytes(), compresslevel=1))


@pytest.mark.parametrize("form", ["new", "2021"])
def test_the_model_is_the_one_that_nemo_restores(form: str, checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    checkpoint, file = checkpoint_file("conformer_transducer", NEW_NEMO), tmp_path / "model.nemo"
    if form == "new":
        file.write_bytes(checkpoint.read_bytes())
        rewrite_config(file, **TRAINING)
    else:
        from_2021(checkpoint, file)
    nemos = ASRModel.restore_from(str(checkpoint), map_location="cpu")
    model = restore_file(file)
    assert type(model) is type(nemos)
    weights = nemos.state_dict()
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.tokenizer.ids_to_tokens(range(90)) == nemos.tokenizer.ids_to_tokens(range(90))
    assert model.cfg.decoding.strategy.startswith("greedy")
    assert model.cfg.get("train_ds") is None


def test_a_tokenizer_is_read_from_the_archive(
    checkpoint_file: CheckpointFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NeMo prefers a file of this machine, here in the current folder, to that of the archive."""
    file = tmp_path / "model.nemo"
    file.write_bytes(checkpoint_file("conformer_transducer", NEW_NEMO).read_bytes())
    monkeypatch.chdir(tmp_path)
    model = read_config(file)["tokenizer"]["model_path"]
    Path(model).write_text("no SentencePiece model")
    assert Path(model).exists()
    assert restore_file(file).tokenizer.vocab_size > 0
