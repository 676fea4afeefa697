"""Served texts equal those of NeMo's transcribe(), utterance for utterance."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

import jiwer
import pytest
import tritonclient.grpc as triton_grpc
from locations import (
    BUILD,
    DEMO_CHECKPOINT,
    DEMO_MANIFEST,
    HYBRID_CHECKPOINT,
    HYBRID_REPOSITORY,
    RNNT_CHECKPOINT,
)

from nemo_triton.audio import load_audio
from nemo_triton.contract import AUDIO, DURATIONS, FRAMES
from nemo_triton.recognizer import AsyncRecognizer, Recognizer
from server.process import running_server

CONCURRENCY = 16

HYBRID = (HYBRID_CHECKPOINT.stem, f"{HYBRID_CHECKPOINT.stem}_ctc")
MODELS = (DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem, *HYBRID)
READ = "read"
SETS = (DEMO_MANIFEST.parent.name, "coffee", READ)
"""The demo's recordings, and if available people's coffee orders and read speech of 0.7 to 35 s."""
MAX_WER = 0.1
"""Limit for coffee orders. The shipped models are not trained for other English."""


@dataclass(frozen=True)
class Expected:
    """A recording with its reference text and NeMo's text."""

    dataset: str
    audio: str
    text: str
    nemo: str


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def hybrid() -> Iterator[str]:
    """The gRPC address of a server with the demo's hybrid."""
    with running_server(HYBRID_REPOSITORY) as server:
        yield server.grpc


@pytest.fixture(scope="module")
def url(model: str, triton_of_all: str, hybrid: str) -> str:
    """The gRPC address of the server that has the model."""
    return hybrid if model in HYBRID else triton_of_all


@pytest.fixture(scope="module", params=SETS)
def expected(request: pytest.FixtureRequest, model: str) -> list[Expected]:
    rows = [json.loads(line) for line in (BUILD / "nemo_transcripts.jsonl").read_text().splitlines()]
    matching = [row for row in rows if (row["model"], row["set"]) == (model, request.param)]
    if not matching:
        pytest.skip(f"no recordings of '{request.param}' here")
    return [Expected(row["set"], row["audio"], row["text"], row["nemo"]) for row in matching]


async def test_sixteen_concurrent_requests(url: str, model: str, expected: list[Expected]) -> None:
    slots = asyncio.Semaphore(CONCURRENCY)
    async with AsyncRecognizer(model, url) as recognizer:

        async def transcribe(row: Expected) -> tuple[str, str]:
            samples = load_audio(row.audio)
            async with slots:
                return row.audio, (await recognizer.transcribe(samples)).text

        texts = dict(await asyncio.gather(*map(transcribe, random.Random(0).sample(expected, len(expected)))))
    assert texts == {row.audio: row.nemo for row in expected}
    if expected[0].dataset != READ:
        assert jiwer.wer([row.text for row in expected], [texts[row.audio] for row in expected]) < MAX_WER


def test_one_request_at_a_time(url: str, model: str, expected: list[Expected]) -> None:
    with Recognizer(model, url) as recognizer:
        for row in expected[:25]:
            assert recognizer.transcribe(load_audio(row.audio)).text == row.nemo


def test_a_tdt_model_serves_the_duration_of_each_token(hybrid: str) -> None:
    recording = sorted(DEMO_MANIFEST.parent.glob("*.flac"))[0]
    audio = triton_grpc.InferInput(AUDIO.name, [1, len(samples := load_audio(recording))], AUDIO.dtype)
    audio.set_data_from_numpy(samples[None])
    with triton_grpc.InferenceServerClient(hybrid) as client:
        response = client.infer(HYBRID_CHECKPOINT.stem, [audio])
        frames, durations = (response.as_numpy(tensor.name)[0].tolist() for tensor in (FRAMES, DURATIONS))
        assert len(frames) == len(durations) > 5
        assert all(first + lasts <= second for first, lasts, second in zip(frames, durations, frames[1:], strict=False))
        assert {*durations} <= {0, 1, 2, 3, 4} and len({*durations}) > 1
        assert DURATIONS.name not in {tensor.name for tensor in client.get_model_metadata(HYBRID[1]).outputs}
