"""The encoder stage with weights published by NVIDIA: MarbleNet has the encoder class of QuartzNet and Jasper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import soundfile
import torch
from feeds import names, open_graph, ragged_feeds
from locations import DEMO_MANIFEST, SHARED

from export_scripts.stages.encoder import EncoderOptions, check_encoder, encoder_graph
from export_scripts.stages.heads import RnntHead
from nemo_triton.contract import ENCODED, FEATURES

CHECKPOINT = SHARED / "nemo" / "vad_multilingual_marblenet.nemo"
NVIDIAS_EXPORT = SHARED / "nemo" / "vad.onnx"
TOLERANCE = 1e-4

Array = npt.NDArray[np.float32]

pytestmark = pytest.mark.skipif(not CHECKPOINT.exists(), reason=f"no checkpoint at {CHECKPOINT}")


@pytest.fixture(scope="module")
def marblenet() -> Any:
    from nemo.collections.asr.models import EncDecClassificationModel

    return EncDecClassificationModel.restore_from(str(CHECKPOINT), map_location="cpu").eval()


@pytest.fixture(scope="module")
def graph(marblenet: Any) -> ort.InferenceSession:
    """The encoder stage without a head: ENCODED is the encoder's output."""
    check_encoder(marblenet.encoder)
    head = RnntHead(torch.nn.Identity())
    return open_graph(encoder_graph(marblenet.encoder, [head], EncoderOptions(mels=80, frame_rate=100)))


@pytest.fixture(scope="module")
def speech(marblenet: Any) -> list[Array]:
    """Features [frames, 80] of all demo commands."""
    return [features(marblenet, path) for path in sorted(DEMO_MANIFEST.parent.glob("*.flac"))]


@torch.no_grad()
def features(model: Any, path: Path) -> Array:
    samples, _ = soundfile.read(path, dtype="float32")
    signal = torch.from_numpy(samples)[None]
    values, length = model.preprocessor(input_signal=signal, length=torch.tensor([len(samples)]))
    frames: Array = values[0, :, : int(length)].T.numpy()
    return frames


def encode(graph: ort.InferenceSession, batch: list[Array]) -> list[Array]:
    encoded, lengths = graph.run(names([ENCODED, ENCODED.length]), ragged_feeds(FEATURES, batch))
    return [row[: int(length)] for row, length in zip(encoded, lengths[:, 0], strict=True)]


@torch.no_grad()
def test_the_encoder_equals_nemo_in_mixed_batches(
    marblenet: Any, graph: ort.InferenceSession, speech: list[Array]
) -> None:
    for item, encoded in zip(speech, encode(graph, speech), strict=True):
        signal, length = torch.from_numpy(item.T[None].copy()), torch.tensor([len(item)])
        nemo, nemo_length = marblenet.encoder(audio_signal=signal, length=length)
        assert len(encoded) == int(nemo_length)
        np.testing.assert_allclose(encoded, nemo[0, :, : len(encoded)].T.numpy(), atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_the_encoder_equals_nvidias_export_without_padding(
    marblenet: Any, graph: ort.InferenceSession, speech: list[Array]
) -> None:
    published = ort.InferenceSession(str(NVIDIAS_EXPORT), providers=["CPUExecutionProvider"])
    logits = []
    for item in speech:
        (encoded,) = encode(graph, [item])
        stage_logits = marblenet.decoder(encoder_output=torch.from_numpy(encoded.T[None].copy())).numpy()
        logits.append(published.run(["logits"], {"audio_signal": item.T[None]})[0])
        np.testing.assert_allclose(stage_logits, logits[-1], atol=TOLERANCE, rtol=0)
    assert np.ptp(np.concatenate(logits), axis=0).min() > 0.1, (
        "the logits must depend on the audio, or the comparison proves nothing"
    )
