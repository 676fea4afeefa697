"""Settings that later NeMo models bring, through export.py on tiny models: NeMo's text each time."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from architectures import (
    ARCHITECTURES,
    CITRINET,
    NEW_NEMO,
    OLD_NEMO,
    TRANSDUCER,
    Block,
    Kind,
    block,
    conformer,
    convolutional,
    fast_conformer,
    preprocessor,
)
from command import invoke_export

from export_scripts.repository.validate import check_repository
from verification.full_size.tokenizer import train_tokenizer

Export = Callable[..., dict[str, Any]]

LOCAL: Block = {"self_attention_model": "rel_pos_local_attn", "att_context_size": [8, 8]}
PARAKEET: Block = {"xscaling": False, "use_bias": False}
CONTEXTNET = [
    block(5, repeat=1, residual=False, separable=True, se=True, se_context_size=-1),
    block(5, separable=True, se=True, se_context_size=-1, kernel_size_factor=1.0),
    block(5, stride=2, separable=True, se=True, se_context_size=-1, residual=True, stride_last=True,
          residual_mode="stride_add"),
    block(5, repeat=1, residual=False, separable=True, se=True, se_context_size=-1),
]  # fmt: skip

MODELS: dict[str, tuple[Block, Block, Kind]] = {
    "conformer_transducer_xlarge": (preprocessor(80, 0.025, 0), conformer(80), "transducer"),
    "contextnet_256": (
        preprocessor(80, 0.025, 16),
        {**convolutional(CONTEXTNET, 80), "activation": "swish"},
        "transducer",
    ),
    "citrinet_256_ls": (preprocessor(80, 0.025, 16), convolutional(CITRINET, 80), "pieces"),
    "parakeet_rnnt_8192": (preprocessor(128, 0.025, 0), fast_conformer(128, **PARAKEET), "transducer"),
    "parakeet_ctc_local": (preprocessor(80, 0.025, 0), fast_conformer(**LOCAL), "pieces"),
    "parakeet_rnnt_local": (preprocessor(128, 0.025, 0), fast_conformer(128, **PARAKEET, **LOCAL), "transducer"),
    "limited_context": (preprocessor(80, 0.025, 0), fast_conformer(att_context_size=[12, 3]), "pieces"),
    "not_normalized": (
        {**preprocessor(80, 0.025, 0), "normalize": "NA"},
        fast_conformer(conv_context_size="causal", causal_downsampling=True, conv_norm_type="layer_norm"),
        "transducer",
    ),
}
OTHER_GRAPHS_FOR_GPUS = ("parakeet_ctc_local", "parakeet_rnnt_local", "limited_context", "not_normalized")
TWO_LSTM_LAYERS = ("conformer_transducer_xlarge", "parakeet_rnnt_8192")
"""Conformer-Transducer xlarge and Parakeets from 0.6 B parameters have two, all others one."""


@functools.cache
def tokenizer(pieces: int, kind: str, punctuated: bool) -> str:
    """Folder of a SentencePiece model."""
    folder = Path(tempfile.mkdtemp(prefix="tokenizer-"))
    train_tokenizer(pieces, folder, kind=kind, punctuated=punctuated)
    return str(folder)


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Export a model with options; returns its parity report."""

    def export(name: str, *options: object) -> dict[str, Any]:
        monkeypatch.setitem(ARCHITECTURES, name, MODELS[name])
        monkeypatch.setitem(TRANSDUCER["decoder"]["prednet"], "pred_rnn_layers", 2 if name in TWO_LSTM_LAYERS else 1)
        if name == "parakeet_rnnt_8192":
            monkeypatch.setattr(tiny_models, "tokenizer_folder", lambda: tokenizer(8192, "bpe", punctuated=True))
        elif name == "citrinet_256_ls":
            monkeypatch.setattr(tiny_models, "tokenizer_folder", lambda: tokenizer(256, "unigram", punctuated=False))
        file, repository = tmp_path / f"{name}.nemo", tmp_path / "repository"
        tiny_models.save_tiny_model(name, OLD_NEMO if name.endswith("_ls") else NEW_NEMO, file)
        result = invoke_export(file, "--repository", repository, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        assert check_repository(repository) == []
        parity: dict[str, Any] = json.loads((repository / name / "1" / "parity.json").read_text())
        assert parity["texts_compared"] == 3 * parity["probes"]
        return parity

    return export


@pytest.mark.parametrize(
    ("name", "target"),
    [*((name, "cpu") for name in MODELS), *((name, "gpu") for name in OTHER_GRAPHS_FOR_GPUS)],
)
def test_texts_are_nemos(name: str, target: str, export: Export) -> None:
    parity = export(name, "--target", target)
    assert parity["texts_equal"] + parity["texts_tied"] == parity["texts_compared"]
    assert parity["characters"] > 10 * parity["probes"]


@pytest.mark.parametrize("name", ["parakeet_ctc_local", "parakeet_rnnt_local"])
def test_local_attention_in_fp16_changes_few_words(name: str, export: Export) -> None:
    """Random weights amplify rounding, so more words change than in a trained model."""
    parity = export(name, "--precision", "fp16", "--target", "gpu", "--max-word-change", 0.1)
    assert parity["precision"] == "fp16"
    assert parity["words_compared"] > parity["probes"]


@pytest.mark.parametrize("name", ["parakeet_ctc_local", "parakeet_rnnt_local"])
def test_texts_of_local_attention_in_int8_do_not_depend_on_the_batch(name: str, export: Export) -> None:
    """The export fails if one does.

    The number of changed words says nothing here: int8 changes most words of any model with random weights, with full
    attention too. test_window_attention.py bounds the error of the scores.
    """
    parity = export(name, "--precision", "int8", "--max-word-change", 1)
    assert parity["precision"] == "int8"
    assert parity["characters"] > 10 * parity["probes"]
