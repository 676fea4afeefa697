"""The text of a request depends on its own audio and on nothing else, in every family of models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from architectures import ARCHITECTURES, CTC
from hypothesis import given, settings
from hypothesis import strategies as st
from locations import DEMO_MANIFEST, FAMILY_REPOSITORY

from nemo_triton.audio import Samples, load_audio
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.recognizer import AsyncRecognizer, Recognizer
from nemo_triton.transcript import Transcript
from server.process import running_server

LOG_PROBS_DIFFERENCE = 1e-3
SPEECH = np.concatenate([load_audio(file) for file in sorted(DEMO_MANIFEST.parent.glob("*.flac"))])

Clip = tuple[int, int]
"""Where it starts in SPEECH, and its length, in samples."""


def clips() -> st.SearchStrategy[Clip]:
    """Of 0.1 to 35 s, short ones as often as long ones."""
    start = st.integers(0, len(SPEECH) - 1)
    lengths = [(0.1, 1), (1, 5), (5, 15), (15, 35)]
    length = st.one_of(*(st.integers(int(low * SAMPLE_RATE), int(high * SAMPLE_RATE)) for low, high in lengths))
    return st.tuples(start, length)


def samples_of(clip: Clip) -> Samples:
    start, length = clip
    return np.resize(np.roll(SPEECH, -start), length)


@pytest.fixture(scope="module")
def families() -> Iterator[str]:
    """The gRPC address of a server of a tiny model of each family."""
    with running_server(FAMILY_REPOSITORY) as server:
        yield server.grpc


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_company_changes_nothing(families: str, family: str) -> None:
    with Recognizer(f"tiny_{family}", families) as recognizer:
        log_probs = recognizer.model.log_probs_name is not None
        assert log_probs == (family in CTC)
        texts = set()

        @settings(max_examples=15, deadline=None, derandomize=True)
        @given(company=st.lists(clips(), min_size=2, max_size=16), at_once=st.integers(2, 16))
        def check(company: list[Clip], at_once: int) -> None:
            alone = [recognizer.transcribe(samples_of(clip), log_probs) for clip in company]
            answers = asyncio.run(together(families, recognizer.model.name, company, at_once, log_probs))
            for alone_transcript, batched in zip(alone, answers, strict=True):
                texts.add(alone_transcript.text)
                assert_same(alone_transcript, batched)

        check()
    assert len(texts) > 40, "texts that are all alike prove nothing"


async def together(url: str, model: str, company: list[Clip], at_once: int, log_probs: bool) -> list[Transcript]:
    slots = asyncio.Semaphore(at_once)
    async with AsyncRecognizer(model, url) as recognizer:

        async def ask(clip: Clip) -> Transcript:
            async with slots:
                return await recognizer.transcribe(samples_of(clip), log_probs)

        return await asyncio.gather(*map(ask, company))


def assert_same(alone: Transcript, batched: Transcript) -> None:
    assert batched.text == alone.text
    np.testing.assert_array_equal(batched.tokens, alone.tokens)
    np.testing.assert_array_equal(batched.token_times, alone.token_times)
    assert (alone.log_probs is None) == (batched.log_probs is None)
    if alone.log_probs is not None and batched.log_probs is not None:
        assert np.isfinite(alone.log_probs).all()
        np.testing.assert_allclose(batched.log_probs, alone.log_probs, atol=LOG_PROBS_DIFFERENCE, rtol=0)
