"""Recognizer and AsyncRecognizer with a real server."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nemo_triton.audio import load_audio
from nemo_triton.contract import Part
from nemo_triton.errors import RecognitionError, RecognizerError, ServerUnavailableError, UnknownModelError
from nemo_triton.loadtest.servers import Servers
from nemo_triton.loadtest.wer import score
from nemo_triton.recognizer import AsyncRecognizer, Recognizer, list_recognizers
from nemo_triton.tls import Tls
from nemo_triton.transcript import Transcript
from server.process import running_server

Spoken = list[tuple[Path, str]]


async def connect_async(model: str | None, url: str) -> None:
    async with AsyncRecognizer(model, url):
        pass


def connect(kind: str, model: str | None, url: str) -> None:
    """Connect with one of the two clients. Both raise the same errors."""
    if kind == "sync":
        with Recognizer(model, url):
            pass
    else:
        asyncio.run(connect_async(model, url))


def assert_equal(actual: Transcript, expected: Transcript) -> None:
    assert actual.text == expected.text
    np.testing.assert_array_equal(actual.tokens, expected.tokens)
    np.testing.assert_array_equal(actual.token_times, expected.token_times)


def test_recognizers_are_listed_without_their_steps(triton: Any) -> None:
    assert list_recognizers(triton.url) == [triton.model]


def test_the_only_recognizer_needs_no_name(triton: Any) -> None:
    with Recognizer(url=triton.url) as recognizer:
        assert recognizer.model.name == triton.model
        assert len(recognizer.model.steps) == len(set(recognizer.model.steps)) >= 3


def test_it_recognizes_speech(triton: Any, spoken: Spoken) -> None:
    with Recognizer(triton.model, triton.url) as recognizer:
        texts = [recognizer.transcribe(load_audio(path)).text for path, _ in spoken]
    wer = score([text for _, text in spoken], texts).wer.value
    assert wer is not None and wer < 0.3


def test_token_times_are_within_the_audio_and_ascending(triton: Any, spoken: Spoken) -> None:
    samples = load_audio(spoken[0][0])
    with Recognizer(triton.model, triton.url) as recognizer:
        transcript = recognizer.transcribe(samples)
        frames = transcript.token_times / recognizer.model.frame_seconds
    assert transcript.tokens.dtype == np.int32
    assert len(transcript.tokens) == len(transcript.token_times) > 10
    assert transcript.tokens.min() >= 0, "the padding is removed"
    assert (np.diff(transcript.token_times) >= 0).all()
    assert transcript.token_times[0] >= 0 and transcript.token_times[-1] <= len(samples) / 16000
    np.testing.assert_allclose(frames, np.rint(frames), atol=1e-6)


def test_token_times_shift_with_the_audio(triton: Any, spoken: Spoken) -> None:
    samples = load_audio(spoken[0][0])
    with Recognizer(triton.model, triton.url) as recognizer:
        plain = recognizer.transcribe(samples)
        late = recognizer.transcribe(np.concatenate([np.zeros(32000, np.int16), samples]))
    assert late.token_times[-1] - plain.token_times[-1] == pytest.approx(2, abs=0.2)


def test_log_probs_are_distributions_with_the_tokens_as_best_labels(triton: Any, spoken: Spoken) -> None:
    samples = load_audio(spoken[0][0])
    with Recognizer(triton.model, triton.url) as recognizer:
        plain = recognizer.transcribe(samples)
        transcript = recognizer.transcribe(samples, log_probs=True)
        frames = np.rint(transcript.token_times / recognizer.model.frame_seconds).astype(int)
        nothing = recognizer.transcribe(np.zeros(0, np.int16), log_probs=True)
    assert plain.log_probs is None
    assert transcript.log_probs is not None and transcript.log_probs.dtype == np.float32
    assert len(transcript.log_probs) == pytest.approx(len(samples) / 16000 / recognizer.model.frame_seconds, abs=2)
    np.testing.assert_allclose(np.exp(transcript.log_probs).sum(axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(transcript.log_probs.argmax(axis=1)[frames], transcript.tokens)
    assert_equal(plain, transcript)
    assert nothing.log_probs is not None and nothing.log_probs.shape == (0, transcript.log_probs.shape[1])


def test_empty_audio_gives_empty_text(triton: Any) -> None:
    with Recognizer(triton.model, triton.url) as recognizer:
        transcript = recognizer.transcribe(np.zeros(0, np.int16))
    assert transcript.text == "" and len(transcript.tokens) == len(transcript.token_times) == 0


async def test_audio_over_the_limit_is_refused_and_the_rest_of_the_batch_is_not(triton: Any, spoken: Spoken) -> None:
    speech = load_audio(spoken[0][0])
    too_long = np.resize(speech, 16000 * 1200 + 1)
    async with AsyncRecognizer(triton.model, triton.url) as recognizer:
        expected = await recognizer.transcribe(speech)
        sent = [speech, too_long, speech, too_long, speech]
        answers = await asyncio.gather(*map(recognizer.transcribe, sent), return_exceptions=True)
    assert [isinstance(answer, RecognitionError) for answer in answers] == [False, True, False, True, False]
    advice = "split it, or export the model with a larger --max-audio-seconds"
    for answer in answers[1::2]:
        assert str(answer) == f"{triton.model} at {triton.url}: audio is longer than 1200 seconds; {advice}"
    assert {answer.text for answer in answers[::2] if isinstance(answer, Transcript)} == {expected.text}


@pytest.mark.parametrize(
    ("samples", "error", "says"),
    [
        (np.zeros(160, np.float64), TypeError, "float64"),
        (np.zeros(160, ">i2"), TypeError, ">i2"),
        ([0, 1, 2], TypeError, "list"),
        (np.zeros((1, 160), np.int16), ValueError, "(1, 160)"),
        (np.int16(3), TypeError, "int16"),
    ],
)
def test_samples_of_another_type_or_shape_are_not_sent(
    triton: Any, samples: Any, error: type[Exception], says: str
) -> None:
    with Recognizer(triton.model, triton.url) as recognizer, pytest.raises(error) as caught:
        recognizer.transcribe(samples)
    assert says in str(caught.value) and "give" in str(caught.value)


async def test_concurrent_requests_give_the_same_results(triton: Any, spoken: Spoken) -> None:
    recordings = [load_audio(path) for path, _ in spoken]
    with Recognizer(triton.model, triton.url) as recognizer:
        unbatched = [recognizer.transcribe(samples) for samples in recordings]
        with ThreadPoolExecutor(4) as threads:
            threaded = list(threads.map(recognizer.transcribe, recordings))
    async with AsyncRecognizer(triton.model, triton.url) as concurrent:
        together = await asyncio.gather(*map(concurrent.transcribe, recordings))
    for expected, by_thread, by_task in zip(unbatched, threaded, together, strict=True):
        assert_equal(by_thread, expected)
        assert_equal(by_task, expected)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_error_names_a_missing_server(kind: str, absent_url: str) -> None:
    with pytest.raises(ServerUnavailableError) as caught:
        connect(kind, "any", absent_url)
    message = str(caught.value)
    assert absent_url in message and "start tritonserver" in message and "\n" not in message
    with pytest.raises(ServerUnavailableError):
        list_recognizers(absent_url)


def test_the_http_and_metrics_ports_are_recognized(repository: Path, triton: Any) -> None:
    only = ["--model-control-mode=explicit", f"--load-model={triton.model}"]
    with running_server(repository, only) as server:
        for url in (server.http, server.metrics):
            expected = f"^{re.escape(url)} answers as HTTP; give Triton's gRPC port, 8001 by default$"
            for kind in ("sync", "async"):
                with pytest.raises(ServerUnavailableError, match=expected):
                    connect(kind, None, url)
            for tls in (None, Tls()):
                with pytest.raises(ServerUnavailableError, match=expected):
                    list_recognizers(url, tls)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_error_for_an_unknown_model_lists_the_known_ones(kind: str, triton: Any) -> None:
    with pytest.raises(UnknownModelError) as caught:
        connect(kind, "no_such_model", triton.url)
    hint = "restart the server to serve a new export (--load-model loads only what it names), or see its log"
    assert str(caught.value) == f"model no_such_model is not served; recognizers served: {triton.model}; {hint}"


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("part", [Part.ENCODER, Part.LOG_PROBS])
def test_other_models_are_not_recognizers(kind: str, part: Part, triton: Any) -> None:
    with pytest.raises(UnknownModelError, match="is not a recognizer") as caught:
        connect(kind, part.of(triton.model), triton.url)
    assert str(caught.value).endswith(f"recognizers served: {triton.model}")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_url_with_a_scheme_is_refused(kind: str) -> None:
    with pytest.raises(RecognizerError, match="is not host:port"):
        connect(kind, "any", "http://localhost:8001")


async def test_the_error_of_a_refused_request_quotes_the_server(triton: Any) -> None:
    samples = np.zeros(16000, np.int16)
    # The same as a model that is unloaded after the client connected.
    with Recognizer(triton.model, triton.url) as recognizer:
        recognizer.model = replace(recognizer.model, name="unloaded", log_probs_name=None)
        with pytest.raises(RecognitionError, match=f"^unloaded at {triton.url}: [^\n]*unknown model[^\n]*$"):
            recognizer.transcribe(samples)
        with pytest.raises(RecognitionError, match="leave out log_probs"):
            recognizer.transcribe(samples, log_probs=True)
    async with AsyncRecognizer(triton.model, triton.url) as concurrent:
        concurrent.model = replace(concurrent.model, name="unloaded")
        with pytest.raises(RecognitionError, match="unknown model"):
            await concurrent.transcribe(samples)


def test_a_late_response_is_an_error(triton: Any) -> None:
    minute = np.random.default_rng(0).integers(-3000, 3000, 16000 * 60, dtype=np.int16)
    with (
        Recognizer(triton.model, triton.url, timeout=0.001) as recognizer,
        pytest.raises(RecognitionError, match=r"within 0\.001 s"),
    ):
        recognizer.transcribe(minute)


async def test_a_stopped_server_raises_recognition_errors(repository: Path, triton: Any) -> None:
    with running_server(repository) as server:
        recognizer = await AsyncRecognizer(triton.model, url=server.grpc).__aenter__()
    with pytest.raises(RecognitionError, match=server.grpc):
        await recognizer.transcribe(np.zeros(160, np.int16))
    with pytest.raises(ServerUnavailableError, match=server.grpc):
        await Servers(recognizer).step_counters()
    await recognizer.__aexit__(None, None, None)
