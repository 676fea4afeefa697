"""The encoder stage on lengths beyond those of the probes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from architectures import CTC, block
from feeds import names, open_graph, ragged_feeds
from fixture_types import OpenCheckpoint
from nemo.collections.asr.modules import ConformerEncoder, ConvASREncoder

from export_scripts.operators.tuning import CPU, Tuning
from export_scripts.stages.encoder import EncoderOptions, check_encoder, encoder_graph
from export_scripts.stages.heads import CtcHead
from nemo_triton.contract import FEATURES, LABELS, LOG_PROBS

Features = npt.NDArray[np.float32]

FRAME_RATE = 100


def encoder_stage(model: Any, tuning: Tuning = CPU) -> onnx.ModelProto:
    options = EncoderOptions(mels=model.cfg.preprocessor.features, frame_rate=FRAME_RATE, tuning=tuning)
    return encoder_graph(model.encoder, [CtcHead(model.decoder)], options)


@pytest.fixture(scope="module", params=sorted(CTC))
def encoder(request: pytest.FixtureRequest, checkpoint: OpenCheckpoint) -> tuple[Any, ort.InferenceSession, int]:
    """A NeMo model, its encoder stage, and its number of mel bands."""
    model: Any = checkpoint(request.param).model
    mels = model.cfg.preprocessor.features
    return model, open_graph(encoder_stage(model)), mels


def run(graph: ort.InferenceSession, batch: list[Features]) -> list[Features]:
    """Valid log-probs of each item. An item without frames is passed as one padding frame."""
    padded = [item if len(item) else np.full((1, item.shape[1]), 9, np.float32) for item in batch]
    feeds = ragged_feeds(FEATURES, padded, [len(item) for item in batch])
    log_probs, lengths, labels = graph.run(names([LOG_PROBS, LABELS.length, LABELS]), feeds)
    rows = [row[: int(length)] for row, length in zip(log_probs, lengths[:, 0], strict=True)]
    assert all((row.argmax(axis=1) == best[: len(row)]).all() for row, best in zip(rows, labels, strict=True))
    return rows


@torch.no_grad()
def by_nemo(model: Any, features: Features) -> Features:
    signal, length = torch.from_numpy(features.T[None].copy()), torch.tensor([len(features)])
    encoded, encoded_length = model.encoder(audio_signal=signal, length=length)
    log_probs: Features = model.decoder(encoder_output=encoded)[0, : int(encoded_length)].numpy()
    return log_probs


def test_from_no_frame_to_a_minute_in_one_batch(encoder: tuple[Any, ort.InferenceSession, int]) -> None:
    model, graph, mels = encoder
    rng = np.random.default_rng(5)
    batch = [rng.normal(0, 1, (frames, mels)).astype(np.float32) for frames in (6000, 0, 1, 2, 9, 17, 401)]
    batched = run(graph, batch)
    assert len(batched[1]) == 0
    for features, log_probs in zip(batch, batched, strict=True):
        if len(features):
            nemo = by_nemo(model, features)
            assert log_probs.shape == nemo.shape
            np.testing.assert_allclose(log_probs, nemo, atol=5e-3, rtol=0)
            np.testing.assert_allclose(log_probs, run(graph, [features])[0], atol=1e-3, rtol=0)


def test_attention_in_small_blocks_equals_nemos(checkpoint: OpenCheckpoint) -> None:
    model: Any = checkpoint("conformer").model
    mels = model.cfg.preprocessor.features
    graph = open_graph(encoder_stage(model, replace(CPU, scores_at_once=60_000)))
    rng = np.random.default_rng(7)
    batch = [rng.normal(0, 1, (frames, mels)).astype(np.float32) for frames in (1500, 1490, 1420, 40)]
    for features, log_probs in zip(batch, run(graph, batch), strict=True):
        np.testing.assert_allclose(log_probs, by_nemo(model, features), atol=1e-3, rtol=0)


def test_nemos_model_is_unchanged(encoder: tuple[Any, ort.InferenceSession, int]) -> None:
    model, _, mels = encoder
    features = np.random.default_rng(6).normal(0, 1, (300, mels)).astype(np.float32)
    before = by_nemo(model, features)
    encoder_stage(model)
    np.testing.assert_array_equal(by_nemo(model, features), before)
    assert not any("forward" in vars(module) for module in model.encoder.modules())


def test_encoders_that_cannot_be_exported() -> None:
    unmasked = ConvASREncoder(jasper=[block(11)], activation="relu", feat_in=64, conv_mask=False)
    with pytest.raises(ValueError, match=r"encoder\.conv_mask is false"):
        check_encoder(unmasked)
    absolute = ConformerEncoder(feat_in=80, n_layers=1, d_model=32, self_attention_model="abs_pos")
    with pytest.raises(
        ValueError, match=r"encoder\.self_attention_model is abs_pos; only rel_pos and rel_pos_local_attn"
    ):
        check_encoder(absolute)
    with pytest.raises(ValueError, match="the encoder is a Identity"):
        check_encoder(torch.nn.Identity())
