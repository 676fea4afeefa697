"""Requests sent to a stage itself: what they say wrongly costs no other request its text."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio
from servers import Triton
from tritonclient.grpc import InferInput

from nemo_triton.audio import load_audio
from nemo_triton.contract import FEATURES, LABELS, Part, Tensor
from nemo_triton.recognizer import AsyncRecognizer

STEPS, MELS = 50, 64


def stage_inputs(tensor: Tensor, values: Any, length: int) -> list[InferInput]:
    inputs = []
    for name, array, dtype in (
        (tensor.name, values, tensor.dtype),
        (tensor.length.name, np.array([[length]], np.int32), "INT32"),
    ):
        inputs.append(InferInput(name, list(array.shape), dtype))
        inputs[-1].set_data_from_numpy(array)
    return inputs


@pytest.mark.parametrize("length", [2**31 - 1, -5])
async def test_a_wrong_length(length: int, triton: Triton, demo_manifest: Path) -> None:
    features = np.ones((1, STEPS, MELS), np.float32)
    await beside_good_requests(
        triton, Part.ENCODER, stage_inputs(FEATURES, features, length), demo_manifest, LABELS.length.name
    )


@pytest.mark.parametrize("label", [2**31 - 1, -(2**31)])
async def test_an_unknown_label(label: int, triton: Triton, demo_manifest: Path) -> None:
    labels = np.array([[3, label, 4]], np.int32)
    await beside_good_requests(triton, Part.DECODER, stage_inputs(LABELS, labels, 3), demo_manifest, "TEXT")


async def beside_good_requests(
    triton: Triton, part: Part, inputs: list[InferInput], demo_manifest: Path, output: str
) -> None:
    """The stage answers, and so does the recognizer for all requests of the same time."""
    samples = load_audio(next(iter(sorted(demo_manifest.parent.glob("*.flac")))))
    stage = part.of(triton.model)
    async with (
        AsyncRecognizer(triton.model, triton.url) as recognizer,
        tritonclient.grpc.aio.InferenceServerClient(triton.url) as client,
    ):
        expected = (await recognizer.transcribe(samples)).text
        good = [recognizer.transcribe(samples) for _ in range(12)]
        wrong = [client.infer(stage, inputs) for _ in range(12)]
        results = await asyncio.gather(*(call for pair in zip(good, wrong, strict=True) for call in pair))
    assert {result.text for result in results[::2]} == {expected}
    assert all(result.as_numpy(output) is not None for result in results[1::2])
