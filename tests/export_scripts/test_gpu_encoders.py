"""Encoders for GPUs, without Conv nodes, compared with NeMo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from architectures import ARCHITECTURES, CTC, NEW_NEMO, RNNT
from feeds import names, open_graph, ragged_feeds
from fixture_types import OpenCheckpoint
from onnx import TensorProto
from tiny_models import tiny_model

from export_scripts.checkpoints.families import decoder_class_of
from export_scripts.operators.tuning import GPU
from export_scripts.operators.walk import all_graphs
from export_scripts.precision.fp16 import last_layers, to_fp16
from export_scripts.stages.encoder import EncoderOptions, encoder_graph
from nemo_triton.contract import FEATURES, Tensor

Numbers = npt.NDArray[np.float32]


@torch.no_grad()
def by_nemo(model: Any, architecture: str, features: Numbers) -> Numbers:
    signal, length = torch.from_numpy(features.T[None].copy()), torch.tensor([len(features)])
    encoded, encoded_length = model.encoder(audio_signal=signal, length=length)
    in_rnnt = architecture in RNNT
    scores = model.joint.enc(encoded.transpose(1, 2)) if in_rnnt else model.decoder(encoder_output=encoded)
    result: Numbers = scores[0, : int(encoded_length)].numpy()
    return result


def run(graph: ort.InferenceSession, outputs: Sequence[Tensor], batch: Sequence[Numbers]) -> list[Numbers]:
    """Valid scores of each item. An item without frames is passed as one padding frame."""
    padded = [item if len(item) else np.full((1, item.shape[1]), 9, np.float32) for item in batch]
    feeds = ragged_feeds(FEATURES, padded, [len(item) for item in batch])
    scores, lengths = graph.run(names(outputs), feeds)
    return [row[: int(length)] for row, length in zip(scores, lengths[:, 0], strict=True)]


@pytest.mark.parametrize("architecture", [*sorted(CTC | RNNT), "fastconformer"])
def test_encoders_for_gpus_equal_nemos(
    architecture: str, checkpoint: OpenCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    front_end, encoder, kind = CTC["conformer"]
    strided = {"subsampling": "dw_striding", "subsampling_factor": 8, "conv_kernel_size": 9}
    monkeypatch.setitem(ARCHITECTURES, "fastconformer", (front_end, {**encoder, **strided}, kind))
    is_shared = architecture in CTC | RNNT
    model: Any = checkpoint(architecture).model if is_shared else tiny_model(architecture, NEW_NEMO)
    mels = model.cfg.preprocessor.features
    traced: list[onnx.ModelProto] = []

    def record(replaced: onnx.ModelProto) -> onnx.ModelProto:
        traced.append(replaced)
        return replaced

    decoder = decoder_class_of(model)(model)
    options = EncoderOptions(mels=mels, frame_rate=100, convert=record, tuning=GPU)
    stage = encoder_graph(model.encoder, [decoder.head()], options)
    counts = Counter(node.op_type for inner in all_graphs(stage.graph) for node in inner.node)
    assert not {"Conv", "ConvTranspose", "Einsum", "STFT"} & set(counts) and counts["MatMul"] > 4

    graph, outputs = open_graph(stage, threads=1), (decoder.encoder_output, decoder.encoder_length)
    rng = np.random.default_rng(5)
    batch = [rng.normal(0, 1, (frames, mels)).astype(np.float32) for frames in (1300, 0, 1, 2, 17, 64, 65, 401)]
    batched = run(graph, outputs, batch)
    assert len(batched[1]) == 0
    for features, scores in zip(batch, batched, strict=True):
        if len(features):
            nemo = by_nemo(model, architecture, features)
            assert scores.shape == nemo.shape
            np.testing.assert_allclose(scores, nemo, atol=5e-3, rtol=0)
            np.testing.assert_allclose(scores, run(graph, outputs, [features])[0], atol=1e-3, rtol=0)
    fp16_stays_close(traced[0], mels)


def fp16_stays_close(traced: onnx.ModelProto, mels: int) -> None:
    """In fp16 scores stay close; all products and their weights are float16, except the last layer."""
    (last,) = last_layers(traced.graph)
    assert "/heads.0/" in last
    converted = to_fp16(traced)
    features = np.random.default_rng(4).normal(0, 1, (2, 300, mels)).astype(np.float32)
    features[1, 57:] = 0
    batch = {"features": features, "length": np.array([300, 57])}
    (fp32, length), (fp16, _) = (open_graph(graph, threads=1).run(None, batch) for graph in (traced, converted))
    for item, frames in enumerate(length):
        np.testing.assert_allclose(fp16[item, :frames], fp32[item, :frames], atol=0.2, rtol=0)
    graph = onnx.shape_inference.infer_shapes(converted).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.input]}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    (head,) = (node for node in graph.node if node.name == last)
    large = {tensor.name for tensor in graph.initializer if np.prod(tensor.dims) > 1000}
    assert {name for name in large if kinds[name] == TensorProto.FLOAT} <= set(head.input)
    known = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if known.issuperset(node.input):
            # Computed when the model is loaded.
            known.update(node.output)
        elif node.op_type in ("MatMul", "RotaryEmbedding"):
            expected = TensorProto.FLOAT if node.name == last else TensorProto.FLOAT16
            numbers = [name for name in node.input if kinds.get(name) != TensorProto.INT64]
            assert {kinds[name] for name in numbers} == {expected}, node.name
