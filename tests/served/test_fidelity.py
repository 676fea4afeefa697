"""Served texts equal those of NeMo's transcribe(), utterance for utterance."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass

import jiwer
import pytest
from locations import BUILD, DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT

from nemo_triton.audio import load_audio
from nemo_triton.recognizer import AsyncRecognizer, Recognizer

CONCURRENCY = 16

MODELS = (DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem)
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


@pytest.fixture(scope="module", params=SETS)
def expected(request: pytest.FixtureRequest, model: str) -> list[Expected]:
    rows = [json.loads(line) for line in (BUILD / "nemo_transcripts.jsonl").read_text().splitlines()]
    matching = [row for row in rows if (row["model"], row["set"]) == (model, request.param)]
    if not matching:
        pytest.skip(f"no recordings of '{request.param}' here")
    return [Expected(row["set"], row["audio"], row["text"], row["nemo"]) for row in matching]


async def test_sixteen_concurrent_requests(triton_of_all: str, model: str, expected: list[Expected]) -> None:
    slots = asyncio.Semaphore(CONCURRENCY)
    async with AsyncRecognizer(model, triton_of_all) as recognizer:

        async def transcribe(row: Expected) -> tuple[str, str]:
            samples = load_audio(row.audio)
            async with slots:
                return row.audio, (await recognizer.transcribe(samples)).text

        texts = dict(await asyncio.gather(*map(transcribe, random.Random(0).sample(expected, len(expected)))))
    assert texts == {row.audio: row.nemo for row in expected}
    if expected[0].dataset != READ:
        assert jiwer.wer([row.text for row in expected], [texts[row.audio] for row in expected]) < MAX_WER


def test_one_request_at_a_time(triton_of_all: str, model: str, expected: list[Expected]) -> None:
    with Recognizer(model, triton_of_all) as recognizer:
        for row in expected[:25]:
            assert recognizer.transcribe(load_audio(row.audio)).text == row.nemo
