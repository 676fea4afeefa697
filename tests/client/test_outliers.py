"""Servers that fail requests but say that they are ready: they are ejected, probed and used again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from servers import Triton
from several_servers import Loop
from waiting import wait_until_async

from nemo_triton.audio import Samples
from nemo_triton.errors import DeadlineExceededError, RecognitionError, UnavailableError
from nemo_triton.outliers import OutlierPolicy
from nemo_triton.recognizer import AsyncRecognizer, Recognizer
from nemo_triton.transcript import Transcript
from verification.faults.faulty_server import Fault, FaultyServer, faulty_server
from verification.faults.sick_servers import fail_after, half, hang, unavailable, wrong_status

REQUESTS = 200
MAX_SICK_REQUESTS = 30
"""Requests that reach a sick server before it is ejected, however many follow."""
QUICK = OutlierPolicy(ejection_seconds=0.5, silent_seconds=1.0, silent_seconds_per_audio_second=0.1, probe_seconds=2.0)
"""Shorter times than by default, so that the tests don't wait for them."""


def dead_process(number: int, context: Any) -> None:
    context.abort(grpc.StatusCode.INTERNAL, "in ensemble 'coffee_ctc', Stub process 'x_0_0' is not healthy.")


@contextmanager
def one_sick_of_two(triton: Triton, fault: Fault | None) -> Iterator[tuple[FaultyServer, FaultyServer]]:
    with faulty_server(triton.url, fault) as sick, faulty_server(triton.url) as healthy:
        yield sick, healthy


def urls(*servers: FaultyServer) -> list[str]:
    return [server.grpc for server in servers]


@pytest.mark.parametrize("fault", [wrong_status, dead_process, unavailable, half, fail_after(1.5), hang])
async def test_no_request_is_lost_and_the_sick_server_gets_few(
    triton: Triton,
    recordings: list[Samples],
    served_texts: list[str],
    fault: Fault,
    caplog: pytest.LogCaptureFixture,
    record_property: Any,
) -> None:
    with one_sick_of_two(triton, fault) as (sick, healthy):
        async with AsyncRecognizer(triton.model, urls(sick, healthy)) as recognizer:
            # An ejection outlasts the test.
            recognizer._endpoints.pool.policy = replace(QUICK, ejection_seconds=300.0)
            loop = Loop(recognizer, recordings, concurrency=16)
            await loop.until(lambda: loop.sent >= REQUESTS)
            await loop.stop()
    loop.check(served_texts)
    record_property("requests to the sick server", sick.recognitions)
    assert sick.recognitions <= MAX_SICK_REQUESTS
    (line,) = caplog.messages
    assert line.startswith(f"{sick.grpc}: ejected for 300 s; other servers get its requests (")


async def test_probes_bring_an_ejected_server_back(
    triton: Triton, recordings: list[Samples], served_texts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with one_sick_of_two(triton, wrong_status) as (sick, healthy):
        async with AsyncRecognizer(triton.model, urls(sick, healthy)) as recognizer:
            recognizer._endpoints.pool.policy = QUICK
            (endpoint,) = (endpoint for endpoint in recognizer.endpoints if endpoint.name == sick.grpc)
            loop = Loop(recognizer, recordings)
            await loop.until(lambda: endpoint.ejections >= 2)
            ejected = sick.recognitions
            sick.fault = None
            await loop.until(lambda: loop.by_endpoint()[sick.grpc] > 20)
            await loop.stop()
    loop.check(served_texts)
    first, second, *_, last = [message for message in caplog.messages if sick.grpc in message]
    assert "ejected for 0.5 s" in first and "failures in a row, the last: in ensemble 'coffee_ctc', broken)" in first
    assert "ejected for 1 s" in second and "a probe failed: in ensemble 'coffee_ctc', broken)" in second
    assert last == f"{sick.grpc}: is back and gets requests again"
    assert ejected < 20


def test_threads_lose_nothing_to_a_server_that_hangs(
    triton: Triton, recordings: list[Samples], served_texts: list[str]
) -> None:
    with (
        one_sick_of_two(triton, hang) as (sick, healthy),
        Recognizer(triton.model, urls(sick, healthy)) as recognizer,
        ThreadPoolExecutor(8) as threads,
    ):
        recognizer._endpoints.pool.policy = QUICK
        transcripts = list(threads.map(recognizer.transcribe, recordings * 4))
    assert [transcript.text for transcript in transcripts] == served_texts * 4
    assert {transcript.endpoint for transcript in transcripts} == {healthy.grpc}


async def test_requests_at_fault_are_not_retried_and_eject_no_server(
    triton: Triton, recordings: list[Samples], caplog: pytest.LogCaptureFixture
) -> None:
    def invalid(number: int, context: Any) -> None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong shape")

    with one_sick_of_two(triton, invalid) as (sick, healthy):
        async with AsyncRecognizer(triton.model, urls(sick, healthy)) as recognizer:
            results = [
                await asyncio.gather(recognizer.transcribe(samples), return_exceptions=True) for samples in recordings
            ]
            errors = [result for (result,) in results if isinstance(result, RecognitionError)]
            assert len(errors) == sick.recognitions == len(recordings) / 2
            assert {error.attempts for error in errors} == {1}
            assert all(endpoint.usable for endpoint in recognizer.endpoints)
    assert not caplog.messages


async def test_a_request_that_every_server_fails_ejects_none(
    triton: Triton, recordings: list[Samples], caplog: pytest.LogCaptureFixture
) -> None:
    with one_sick_of_two(triton, None) as (first, second):
        async with AsyncRecognizer(triton.model, urls(first, second)) as recognizer:
            for samples in recordings[:5]:
                first.fault = second.fault = wrong_status
                with pytest.raises(RecognitionError, match="broken") as caught:
                    await recognizer.transcribe(samples)
                assert caught.value.attempts == 2
                first.fault = second.fault = None
                await recognizer.transcribe(samples)
            assert all(endpoint.usable for endpoint in recognizer.endpoints)
    assert not caplog.messages


async def test_retries_stay_within_the_budget_if_everything_fails(triton: Triton, recordings: list[Samples]) -> None:
    with one_sick_of_two(triton, wrong_status) as (first, second):
        second.fault = wrong_status
        async with AsyncRecognizer(triton.model, urls(first, second)) as recognizer:
            requests = [recognizer.transcribe(recordings[0]) for _ in range(400)]
            results = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(result, RecognitionError) for result in results)
    assert first.recognitions + second.recognitions == 400 + 100


async def test_a_deadline_counts_against_a_server_that_hangs(
    triton: Triton, recordings: list[Samples], caplog: pytest.LogCaptureFixture
) -> None:
    with one_sick_of_two(triton, hang) as (sick, healthy):
        async with AsyncRecognizer(triton.model, urls(sick, healthy), timeout=0.7) as recognizer:
            recognizer._endpoints.pool.policy = replace(QUICK, silent_seconds=60.0, ejection_seconds=300.0)

            async def send_some() -> bool:
                results = await asyncio.gather(*map(recognizer.transcribe, recordings[:8]), return_exceptions=True)
                assert all(isinstance(result, Transcript | DeadlineExceededError) for result in results)
                return bool(caplog.messages)

            await wait_until_async(send_some)
    assert "no answer before the deadline" in caplog.messages[0]


async def test_the_last_usable_server_is_not_ejected(triton: Triton, recordings: list[Samples]) -> None:
    with one_sick_of_two(triton, unavailable) as (sick, other):
        async with AsyncRecognizer(triton.model, urls(sick, other)) as recognizer:
            recognizer._endpoints.pool.policy = replace(QUICK, ejection_seconds=300.0)
            loop = Loop(recognizer, recordings)
            ejected = recognizer.endpoints[0] if recognizer.endpoints[0].name == sick.grpc else recognizer.endpoints[1]
            await loop.until(lambda: not ejected.usable)
            await loop.stop()
            other.fault = unavailable
            for samples in recordings[:6]:
                with pytest.raises(UnavailableError, match="out of order"):
                    await recognizer.transcribe(samples)
            assert [endpoint.name for endpoint in recognizer.endpoints if endpoint.usable] == [other.grpc]


@pytest.mark.parametrize("processes", [1, 2])
def test_bench_prints_each_ejection(triton: Triton, run_command: Any, processes: int) -> None:
    with one_sick_of_two(triton, wrong_status) as (sick, healthy):
        options = ("--concurrency", 12, "--requests", 60, "--warmup", 0, "--processes", processes)
        metrics = ("--metrics-url", triton.metrics)
        done = run_command("bench", "--url", ",".join(urls(sick, healthy)), *metrics, *options)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    # Each sending process has its own connections.
    assert len(lines) == processes
    assert all(line.startswith(f"warning: {sick.grpc}: ejected for 10 s; other servers") for line in lines)
