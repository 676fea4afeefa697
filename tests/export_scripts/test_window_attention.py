"""Attention with a limited context, compared with NeMo's on single utterances."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from feeds import open_graph
from nemo.collections.asr.modules import ConformerEncoder, ConvASRDecoder

from export_scripts.operators.tuning import CPU, GPU, Tuning
from export_scripts.precision.fp16 import to_fp16
from export_scripts.precision.int8 import to_int8
from export_scripts.stages.encoder import LengthKeepingEncoder, check_encoder, trace
from export_scripts.stages.heads import CtcHead

Numbers = npt.NDArray[np.float32]

MELS, WIDTH = 32, 24
LENGTHS = (1201, 640, 163, 90, 9, 1)
"""Mel frames; an encoder frame has four. The longest audio is several windows long, the shortest are below one."""
LOCAL = {"self_attention_model": "rel_pos_local_attn"}
CONTEXTS: dict[str, dict[str, Any]] = {
    "local": {**LOCAL, "att_context_size": [16, 16]},
    "local, wide": {**LOCAL, "att_context_size": [128, 128]},
    "local, narrow": {**LOCAL, "att_context_size": [2, 2]},
    "local, more past": {**LOCAL, "att_context_size": [24, 7]},
    "local, more future": {**LOCAL, "att_context_size": [5, 20]},
    "local, past only": {**LOCAL, "att_context_size": [16, 0]},
    "limited": {"att_context_size": [16, 16]},
    "limited, unequal": {"att_context_size": [40, 3]},
    "limited, all of the past": {"att_context_size": [-1, 5]},
    "limited, all of the future": {"att_context_size": [0, -1]},
    "local, parakeet": {
        **LOCAL,
        "att_context_size": [16, 16],
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "xscaling": False,
        "use_bias": False,
    },
    "limited, causal": {"att_context_size": [30, 0], "conv_context_size": "causal", "causal_downsampling": True},
}
SMALL_BLOCKS = replace(CPU, scores_at_once=20_000)


def make_encoder(**options: Any) -> Any:
    """A Conformer of two layers with random weights, none of them zero."""
    torch.manual_seed(3)
    encoder = ConformerEncoder(
        feat_in=MELS, n_layers=2, d_model=WIDTH, n_heads=3, conv_kernel_size=9, subsampling_conv_channels=8, **options
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "pos_bias" in name or name.endswith(".bias"):
                parameter.normal_(0, 0.3)
            elif "self_attn" in name:
                # Positions and contents decide: with small weights, all scores would be about equal.
                parameter.mul_(3)
    head = ConvASRDecoder(feat_in=WIDTH, num_classes=20, vocabulary=[str(label) for label in range(20)])
    return LengthKeepingEncoder(encoder, [CtcHead(head)]).eval()


@pytest.fixture(scope="module", params=CONTEXTS)
def encoder(request: pytest.FixtureRequest) -> Any:
    return make_encoder(**CONTEXTS[request.param])


@pytest.fixture(scope="module")
def features() -> list[Numbers]:
    rng = np.random.default_rng(6)
    return [rng.normal(0, 1, (frames, MELS)).astype(np.float32) for frames in LENGTHS]


@torch.no_grad()
def by_nemo(encoder: Any, item: Numbers) -> Numbers:
    scores, length = encoder(torch.from_numpy(item[None]), torch.tensor([len(item)]))
    result: Numbers = scores[0, : int(length)].numpy()
    return result


def run(traced: onnx.ModelProto, batch: list[Numbers]) -> list[Numbers]:
    """Valid scores of each item of a batch, with garbage in the padding."""
    padded = np.full((len(batch), max(map(len, batch)), MELS), 100, np.float32)
    for row, item in zip(padded, batch, strict=True):
        row[: len(item)] = item
    lengths = np.array([len(item) for item in batch])
    scores, steps = open_graph(traced).run(["scores", "scores_length"], {"features": padded, "length": lengths})
    return [row[:length] for row, length in zip(scores, steps, strict=True)]


@pytest.mark.parametrize("tuning", [CPU, SMALL_BLOCKS, GPU], ids=["cpu", "small_blocks", "gpu"])
def test_scores_equal_nemos(encoder: Any, tuning: Tuning, features: list[Numbers]) -> None:
    traced, _ = trace(encoder, MELS, tuning)
    (expected, *_) = nemos = [by_nemo(encoder, item) for item in features]
    assert expected.std() > 0.3
    for batch, references in ((features, nemos), (features[:1], nemos[:1]), (features[2:], nemos[2:])):
        for scores, nemo in zip(run(traced, batch), references, strict=True):
            assert scores.shape == nemo.shape
            np.testing.assert_allclose(scores, nemo, atol=2e-4, rtol=0)


@pytest.mark.parametrize("context", ["local", "local, more past", "local, parakeet", "limited"])
@pytest.mark.parametrize("tuning", [CPU, SMALL_BLOCKS, GPU], ids=["cpu", "small_blocks", "gpu"])
def test_lengths_around_the_window(context: str, tuning: Tuning) -> None:
    """A side has 16 frames in most contexts, a window 33, and NeMo pads to a multiple of 32."""
    encoder = make_encoder(**CONTEXTS[context])
    traced, _ = trace(encoder, MELS, tuning)
    rng = np.random.default_rng(8)
    frames_per_step = encoder.encoder.subsampling_factor
    batch = [
        rng.normal(0, 1, (frames_per_step * steps, MELS)).astype(np.float32)
        for steps in (15, 16, 17, 18, 31, 32, 33, 34, 64, 65)
    ]
    for scores, item in zip(run(traced, batch), batch, strict=True):
        np.testing.assert_allclose(scores, by_nemo(encoder, item), atol=2e-4, rtol=0)
        np.testing.assert_allclose(scores, run(traced, [item])[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("context", ["local", "local, more past", "limited, all of the past"])
@pytest.mark.parametrize("tuning", [CPU, replace(GPU, rotated_attention=False)], ids=["cpu", "gpu"])
def test_scores_in_fp16_and_int8_stay_close(
    context: str, tuning: Tuning, precision: str, features: list[Numbers]
) -> None:
    encoder = make_encoder(**CONTEXTS[context])
    traced, _ = trace(encoder, MELS, tuning)
    batches = ({"features": item[None], "length": np.array([len(item)])} for item in features[:3])
    converted = to_fp16(traced) if precision == "fp16" else to_int8(traced, batches)
    tolerance = 0.01 if precision == "fp16" else 0.1
    for scores, item in zip(run(converted, features), features, strict=True):
        nemo = by_nemo(encoder, item)
        # The square root of the mean, since single scores of int8 differ by more.
        assert np.sqrt(np.square(scores - nemo).mean()) < tolerance * nemo.std()
        np.testing.assert_allclose(scores, run(converted, [item])[0], atol=0.02, rtol=0)


def peak_memory() -> int:
    """Bytes, of this process."""
    (kib,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kib)


def test_a_recording_of_many_minutes(features: list[Numbers]) -> None:
    """Scores of all frames by all frames would be 2.7 GB."""
    encoder = make_encoder(**CONTEXTS["local, wide"])
    traced, _ = trace(encoder, MELS, CPU)
    long = np.random.default_rng(2).normal(0, 1, (60_000, MELS)).astype(np.float32)
    # Let the process's peak memory begin at its present memory (proc_pid_clear_refs(5)).
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    scores, _ = run(traced, [long, features[2]])
    assert peak_memory() - before < 1e9
    np.testing.assert_allclose(scores, by_nemo(encoder, long), atol=2e-4, rtol=0)


def test_products_of_local_attention_are_float16_in_fp16() -> None:
    converted = onnx.shape_inference.infer_shapes(to_fp16(trace(make_encoder(**CONTEXTS["local"]), MELS, GPU)[0]))
    loops = [node.attribute[0].g for node in converted.graph.node if node.op_type == "Loop"]
    assert len(loops) == 2
    for body in loops:
        kinds = {value.name: value.type.tensor_type.elem_type for value in body.value_info}
        products = [node for node in body.node if node.op_type == "MatMul"]
        assert [kinds[node.output[0]] for node in products] == [onnx.TensorProto.FLOAT16] * 3


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"att_context_size": [[70, 13], [70, 0]]},
            "encoder.att_context_size is [[70, 13], [70, 0]], with att_context_style regular, as in streaming models",
        ),
        (
            {"att_context_size": [70, 13], "att_context_style": "chunked_limited"},
            "encoder.att_context_size is [70, 13], with att_context_style chunked_limited, as in streaming models; ",
        ),
        (
            {**LOCAL, "att_context_size": [16, 16], "global_tokens": 2},
            "encoder.global_tokens is 2; only 0 can be exported; choose ",
        ),
        (
            {**LOCAL, "att_context_size": [-1, 16]},
            "encoder.att_context_size is [-1, 16], which NeMo can't compute with rel_pos_local_attn; set it to 0 or ",
        ),
        (
            {**LOCAL, "att_context_size": [1, 1]},
            "encoder.att_context_size is [1, 1], which NeMo can't compute with rel_pos_local_attn; set it to 0 or ",
        ),
    ],
)
def test_attentions_that_cannot_be_exported(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        check_encoder(make_encoder(**settings).encoder)
