"""The text of a request depends only on its audio, in every family of models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from architectures import ARCHITECTURES, CTC, HYBRID
from hypothesis import given, settings
from hypothesis import strategies as st
from locations import DEMO_MANIFEST, FAMILY_REPOSITORY

from nemo_triton.audio import Samples, load_audio
from nemo_triton.contract import SAMPLE_RATE
from nemo_triton.recognizer import AsyncRecognizer, Recognizer
from nemo_triton.transcript import Transcript
from server.process import running_server

LOG_PROBS_TOLERANCE = 1e-3
SPEECH = np.concatenate([load_audio(file) for file in sorted(DEMO_MANIFEST.parent.glob("*.flac"))])

Clip = tuple[int, int]
"""Start in SPEECH and length, in samples."""


def clips() -> st.SearchStrategy[Clip]:
    """Clips of 0.1 to 35 s; short ones are as frequent as long ones."""
    start = st.integers(0, len(SPEECH) - 1)
    lengths = [(0.1, 1), (1, 5), (5, 15), (15, 35)]
    length = st.one_of(*(st.integers(int(low * SAMPLE_RATE), int(high * SAMPLE_RATE)) for low, high in lengths))
    return st.tuples(start, length)


def samples_of(clip: Clip) -> Samples:
    start, length = clip
    return np.resize(np.roll(SPEECH, -start), length)


@pytest.fixture(scope="module")
def families() -> Iterator[str]:
    """The gRPC endpoint of a server with a tiny model of each family, and a Conformer exported for GPUs."""
    with running_server(FAMILY_REPOSITORY) as server:
        yield server.grpc


@pytest.mark.parametrize("family", [*ARCHITECTURES, *(f"{name}_ctc" for name in HYBRID), "conformer_gpu"])
def test_batched_transcripts_equal_unbatched_ones(families: str, family: str) -> None:
    with Recognizer(f"tiny_{family}", families) as recognizer:
        log_probs = recognizer.model.log_probs_name is not None
        assert log_probs == (family.removesuffix("_gpu") in CTC or family.endswith("_ctc"))
        texts = set()

        @settings(max_examples=15, deadline=None, derandomize=True)
        @given(mix=st.lists(clips(), min_size=2, max_size=16), concurrency=st.integers(2, 16))
        def check(mix: list[Clip], concurrency: int) -> None:
            unbatched = [recognizer.transcribe(samples_of(clip), log_probs) for clip in mix]
            batched = asyncio.run(transcribe_all(families, recognizer.model.name, mix, concurrency, log_probs))
            for expected, actual in zip(unbatched, batched, strict=True):
                texts.add(expected.text)
                assert_same(expected, actual)

        check()
    assert len(texts) > 40, "texts that are all alike prove nothing"


@pytest.mark.parametrize("family", HYBRID)
def test_both_heads_of_a_hybrid_at_the_same_time(families: str, family: str) -> None:
    """They share the encoder, so its batches mix requests for both."""
    names = f"tiny_{family}", f"tiny_{family}_ctc"
    mix = [(start * SAMPLE_RATE, (1 + start % 7) * SAMPLE_RATE) for start in range(40)]

    async def of_both(concurrency: int) -> list[list[Transcript]]:
        return list(await asyncio.gather(*(transcribe_all(families, name, mix, concurrency, False) for name in names)))

    unbatched, batched = (asyncio.run(of_both(concurrency)) for concurrency in (1, 8))
    for expected, actual in zip(unbatched, batched, strict=True):
        assert [transcript.text for transcript in actual] == [transcript.text for transcript in expected]
        assert len({transcript.text for transcript in expected}) > 20
    main, ctc = ([transcript.text for transcript in head] for head in batched)
    assert main != ctc


async def transcribe_all(url: str, model: str, mix: list[Clip], concurrency: int, log_probs: bool) -> list[Transcript]:
    slots = asyncio.Semaphore(concurrency)
    async with AsyncRecognizer(model, url) as recognizer:

        async def transcribe(clip: Clip) -> Transcript:
            async with slots:
                return await recognizer.transcribe(samples_of(clip), log_probs)

        return await asyncio.gather(*map(transcribe, mix))


def assert_same(expected: Transcript, actual: Transcript) -> None:
    assert actual.text == expected.text
    np.testing.assert_array_equal(actual.tokens, expected.tokens)
    np.testing.assert_array_equal(actual.token_times, expected.token_times)
    assert (expected.log_probs is None) == (actual.log_probs is None)
    if expected.log_probs is not None and actual.log_probs is not None:
        assert np.isfinite(expected.log_probs).all()
        np.testing.assert_allclose(actual.log_probs, expected.log_probs, atol=LOG_PROBS_TOLERANCE, rtol=0)
