"""Served fp16 and int8 models: batching changes no text, and few words differ from NeMo's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from locations import BUILD, DEMO_CHECKPOINT, DEMO_MANIFEST, PRECISION_REPOSITORY, RNNT_CHECKPOINT

from nemo_triton.audio import load_audio
from nemo_triton.loadtest.wer import score
from nemo_triton.recognizer import AsyncRecognizer, Recognizer
from server.process import running_server

WORDS_CHANGED = {"fp16": 0.005, "int8": 0.02}
"""Largest fraction of NeMo's words that may change, as in an export by default."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server(PRECISION_REPOSITORY) as running:
        yield running.grpc


async def transcribe_all(url: str, model: str, files: list[str]) -> list[str]:
    async with AsyncRecognizer(model, url) as recognizer:
        transcripts = await asyncio.gather(*(recognizer.transcribe(load_audio(file)) for file in files))
    return [transcript.text for transcript in transcripts]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("checkpoint", [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem])
def test_texts_are_the_same_unbatched_and_close_to_nemos(server: str, checkpoint: str, precision: str) -> None:
    lines = (BUILD / "nemo_transcripts.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["model"] == checkpoint]
    rows = [row for row in rows if row["set"] == DEMO_MANIFEST.parent.name]
    files = [row["audio"] for row in rows]
    with Recognizer(f"{checkpoint}_{precision}", server) as recognizer:
        assert recognizer.model.precision == precision
        unbatched = [recognizer.transcribe(load_audio(file)).text for file in files]
    assert asyncio.run(transcribe_all(server, recognizer.model.name, files)) == unbatched
    words = score([row["nemo"] for row in rows], unbatched).words
    assert words.total > 200
    assert words.errors <= WORDS_CHANGED[precision] * words.total
