"""Decoder and text as two stages, as `--decoder-device gpu` exports them: responses equal those of the single stage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT

from benchmark.studies.gpu.variants import VARIANTS
from benchmark.studies.variants import write_variant
from export_scripts.repository.gpu import TensorRt
from nemo_triton.audio import Samples, load_audio
from nemo_triton.contract import AUDIO, TRANSCRIPT, Part
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.transcript import Transcript
from server.process import running_server

OUTPUTS = tuple(tensor.name for tensor in TRANSCRIPT)
(GPU_DECODER,) = (variant for variant in VARIANTS if variant.splits_text)


@pytest.fixture(scope="module", params=[DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def split_server(repository: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gRPC endpoint of a server whose decoder is split into two stages."""
    folder = tmp_path_factory.mktemp("split") / "repository"
    write_variant(repository, model, folder, GPU_DECODER.change_for(TensorRt()))
    assert (folder / Part.TEXT.of(model)).is_dir()
    with running_server(folder) as server:
        yield server.grpc


@pytest.fixture(scope="module")
def spoken() -> list[Samples]:
    """All recordings of the demo, with silence and empty audio between them, which have no tokens."""
    recordings = [load_audio(file) for file in sorted(DEMO_MANIFEST.parent.glob("*.flac"))]
    return [*recordings, np.zeros(8000, np.int16), np.zeros(0, np.int16), *recordings[::-1]]


async def transcribe_all(url: str, model: str, audio: list[Samples]) -> list[Transcript]:
    async with AsyncRecognizer(model, url) as recognizer:
        return await asyncio.gather(*(recognizer.transcribe(samples) for samples in audio))


def test_mixed_batches_have_the_same_transcripts(
    split_server: str, triton_of_all: str, model: str, spoken: list[Samples]
) -> None:
    expected = asyncio.run(transcribe_all(triton_of_all, model, spoken))
    actual = asyncio.run(transcribe_all(split_server, model, spoken))
    assert [transcript.text for transcript in actual] == [transcript.text for transcript in expected]
    for transcript, reference in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(transcript.tokens, reference.tokens)
        np.testing.assert_array_equal(transcript.token_times, reference.token_times)
    assert sum(bool(transcript.text) for transcript in actual) > len(spoken) - 10
    with grpc.InferenceServerClient(split_server) as client:
        (statistics,) = client.get_inference_statistics(Part.TEXT.of(model)).model_stats
    assert statistics.inference_count == len(spoken) > statistics.execution_count, "texts are made in batches"


def test_any_combination_of_outputs_can_be_requested(
    split_server: str, triton_of_all: str, model: str, spoken: list[Samples]
) -> None:
    """Triton drops a step if a request names none of its outputs, even if a later step needs them."""
    audio = grpc.InferInput(AUDIO.name, [1, len(spoken[0])], AUDIO.dtype)
    audio.set_data_from_numpy(spoken[0][None])
    with grpc.InferenceServerClient(triton_of_all) as single, grpc.InferenceServerClient(split_server) as client:
        expected = single.infer(model, [audio])
        for count in range(1, len(OUTPUTS) + 1):
            for names in combinations(OUTPUTS, count):
                outputs = [grpc.InferRequestedOutput(name) for name in names]
                response = client.infer(model, [audio], outputs=outputs, client_timeout=20)
                for name in names:
                    np.testing.assert_array_equal(response.as_numpy(name), expected.as_numpy(name))


def test_each_output_has_the_same_type_and_shape(
    split_server: str, triton_of_all: str, model: str, spoken: list[Samples]
) -> None:
    for samples in (spoken[0], np.zeros(0, np.int16)):
        responses = []
        for url in (split_server, triton_of_all):
            audio = grpc.InferInput(AUDIO.name, [1, len(samples)], AUDIO.dtype)
            audio.set_data_from_numpy(samples[None])
            with grpc.InferenceServerClient(url) as client:
                responses.append(client.infer(model, [audio]))
        for name in OUTPUTS:
            actual, expected = (response.as_numpy(name) for response in responses)
            assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(actual, expected)
