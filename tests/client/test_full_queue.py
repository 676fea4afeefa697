"""Servers whose queues are full: the client waits and retries, and reports each refusal."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from servers import Triton

from nemo_triton.audio import Samples
from nemo_triton.errors import DeadlineExceededError, QueueFullError, UnavailableError
from nemo_triton.recognizer import AsyncRecognizer, Recognizer
from nemo_triton.transcript import Transcript
from server.process import Server, running_server
from verification.faults.faulty_server import faulty_server

SMALL = "max_queue_size: 1"
IMPATIENT = "default_timeout_microseconds: 1 timeout_action: REJECT"


@pytest.fixture(scope="module")
def serve_queue(repository: Path, triton: Triton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a server whose first stage has a queue policy and computes one request at a time."""
    with ExitStack() as stack:

        def start(policy: str) -> Server:
            models = tmp_path_factory.mktemp("models") / "repository"
            shutil.copytree(repository, models)
            config = models / "audio" / "config.pbtxt"
            text = config.read_text()
            assert "dynamic_batching" not in text
            config.write_text(f"{text}\ndynamic_batching {{ default_queue_policy {{ {policy} }} }}\n")
            only = ["--model-control-mode=explicit", f"--load-model={triton.model}"]
            return stack.enter_context(running_server(models, only))

        yield start


@pytest.fixture(scope="module")
def small(serve_queue: Callable[[str], Server]) -> Server:
    return serve_queue(SMALL)


@contextmanager
def holding_server(url: str, *, refused: int) -> Iterator[tuple[Any, threading.Event]]:
    """A server that refuses the request of this number, and holds all others until the event is set."""
    release = threading.Event()

    def hold(number: int, context: Any) -> None:
        if number == refused:
            full(number, context)
        release.wait()

    with faulty_server(url, hold) as server:
        try:
            yield server, release
        finally:
            release.set()


async def results_of(recognizer: AsyncRecognizer, recordings: list[Samples]) -> list[Transcript | BaseException]:
    return await asyncio.gather(*map(recognizer.transcribe, recordings), return_exceptions=True)


async def test_requests_are_retried_until_the_queue_has_room(
    small: Server, triton: Triton, recordings: list[Samples], served_texts: list[str]
) -> None:
    async with AsyncRecognizer(triton.model, small.grpc) as recognizer:
        transcripts = await asyncio.gather(*map(recognizer.transcribe, recordings * 4))
    assert [transcript.text for transcript in transcripts] == served_texts * 4
    assert sum(transcript.refusals for transcript in transcripts) > 0
    assert all(transcript.attempts == transcript.refusals + 1 for transcript in transcripts)


async def test_requests_that_wait_are_sent_in_their_order_and_seldom_refused_again(
    small: Server, triton: Triton, recordings: list[Samples]
) -> None:
    answered: list[int] = []

    async def transcribe(number: int) -> Transcript:
        transcript = await recognizer.transcribe(recordings[number % len(recordings)])
        answered.append(number)
        return transcript

    async with AsyncRecognizer(triton.model, small.grpc) as recognizer:
        transcripts = await asyncio.gather(*map(transcribe, range(100)))
    waited = [number for number in answered if transcripts[number].refusals]
    assert len(waited) > 50
    assert max(abs(place - sorted(waited).index(number)) for place, number in enumerate(waited)) <= 10
    # The first time, all are sent.
    assert sum(transcript.refusals for transcript in transcripts) < 2 * len(waited)


async def test_a_request_without_room_is_not_sent(triton: Triton, recordings: list[Samples]) -> None:
    with holding_server(triton.url, refused=1) as (server, release):
        async with AsyncRecognizer(triton.model, server.grpc) as recognizer:
            others = []
            for count in (1, 2):
                others.append(asyncio.ensure_future(recognizer.transcribe(recordings[0])))
                while server.recognitions < count:
                    await asyncio.sleep(0.01)
            endpoint = recognizer.endpoints[0]
            while not endpoint.full_until:
                await asyncio.sleep(0.01)
            assert endpoint.in_flight == 1
            recognizer.timeout = 0.2
            with pytest.raises(QueueFullError, match=r"the queue is full \(no room before the deadline\)") as caught:
                await recognizer.transcribe(recordings[0])
            release.set()
            transcripts = await asyncio.gather(*others)
    assert (caught.value.attempts, caught.value.refusals) == (0, 0)
    assert [transcript.attempts for transcript in transcripts] == [1, 2]
    assert server.recognitions == 3


@pytest.mark.parametrize("policy", [SMALL, IMPATIENT])
async def test_a_refusal_is_an_error_of_its_kind_without_retries(
    serve_queue: Callable[[str], Server], small: Server, triton: Triton, recordings: list[Samples], policy: str
) -> None:
    server = small if policy == SMALL else serve_queue(policy)
    async with AsyncRecognizer(triton.model, server.grpc, retry_full_queue=False) as recognizer:
        results = await results_of(recognizer, recordings * 4)
    errors = [result for result in results if isinstance(result, BaseException)]
    assert errors
    for error in errors:
        assert isinstance(error, QueueFullError) and isinstance(error, UnavailableError)
        assert (error.attempts, error.refusals) == (1, 1)
        assert str(error).startswith(f"{triton.model} at {server.grpc}: the queue is full (in ensemble ")
        assert str(error).endswith("); retry later, send fewer concurrent requests, or add servers")


def server_options(server: Server) -> tuple[str, ...]:
    return "--url", server.grpc, "--metrics-url", f"http://{server.metrics}/metrics"


def full(number: int, context: Any) -> None:
    context.abort(grpc.StatusCode.UNAVAILABLE, "in ensemble 'coffee_ctc', [request id: 1] Exceeds maximum queue size")


def test_the_deadline_ends_retries(triton: Triton, recordings: list[Samples]) -> None:
    with (
        faulty_server(triton.url, full) as server,
        Recognizer(triton.model, server.grpc, timeout=0.5) as recognizer,
        pytest.raises(QueueFullError, match="the queue is full") as caught,
    ):
        recognizer.transcribe(recordings[0])
    assert caught.value.refusals == caught.value.attempts == server.recognitions > 2


def test_a_request_that_was_accepted_and_lost_is_not_said_to_be_refused(
    triton: Triton, recordings: list[Samples]
) -> None:
    with (
        holding_server(triton.url, refused=0) as (server, _),
        Recognizer(triton.model, server.grpc, timeout=2) as recognizer,
        pytest.raises(DeadlineExceededError, match="within 2 s") as caught,
    ):
        recognizer.transcribe(recordings[0])
    assert (caught.value.attempts, caught.value.refusals) == (2, 1)


def test_threads_wait_in_the_same_line(
    small: Server, triton: Triton, recordings: list[Samples], served_texts: list[str]
) -> None:
    with Recognizer(triton.model, small.grpc) as recognizer, ThreadPoolExecutor(32) as threads:
        transcripts = list(threads.map(recognizer.transcribe, recordings * 4))
    assert [transcript.text for transcript in transcripts] == served_texts * 4
    assert sum(transcript.refusals for transcript in transcripts) > 0


async def test_a_cancelled_request_leaves_the_line(triton: Triton, recordings: list[Samples]) -> None:
    with holding_server(triton.url, refused=1) as (server, release):
        async with AsyncRecognizer(triton.model, server.grpc) as recognizer:
            requests = [asyncio.ensure_future(recognizer.transcribe(recordings[0])) for _ in range(2)]
            endpoint = recognizer.endpoints[0]
            while not endpoint.full_until:
                await asyncio.sleep(0.01)
            requests += [asyncio.ensure_future(recognizer.transcribe(recordings[0])) for _ in range(2)]
            await asyncio.sleep(0)
            for request in requests[2:]:
                assert not request.done()
            requests[2].cancel()
            release.set()
            results = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(results[2], asyncio.CancelledError)
    assert all(isinstance(results[number], Transcript) for number in (0, 1, 3))
    assert server.recognitions == 4


async def test_a_full_server_is_avoided_but_not_ejected(
    triton: Triton, recordings: list[Samples], served_texts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with faulty_server(triton.url, full) as busy, faulty_server(triton.url) as free:
        async with AsyncRecognizer(triton.model, [busy.grpc, free.grpc]) as recognizer:
            transcripts = [await recognizer.transcribe(samples) for samples in recordings]
            assert all(endpoint.usable for endpoint in recognizer.endpoints)
    assert [transcript.text for transcript in transcripts] == served_texts
    assert {transcript.endpoint for transcript in transcripts} == {free.grpc}
    # Half a second after a refusal the server is tried again.
    assert 0 < busy.recognitions < len(recordings) / 2
    assert sum(transcript.refusals for transcript in transcripts) == busy.recognitions
    assert not caplog.messages


def test_bench_reports_refused_requests_of_an_open_loop(small: Server, run_command: Any, tmp_path: Path) -> None:
    output, rows, table = tmp_path / "out.json", tmp_path / "rows.jsonl", tmp_path / "out.csv"
    files = ("--json", output, "--rows", rows, "--csv", table)
    done = run_command("bench", *server_options(small), "--rate", 300, "--duration", 2, *files)
    assert (done.returncode, done.stderr) == (0, "")
    (load,) = json.loads(output.read_text())["loads"]
    responses = [json.loads(line) for line in rows.read_text().splitlines() if '"number"' in line]
    refused = [row for row in responses if row["refused"]]
    assert load["refused"] == load["refusals"] == len(refused) > 0
    assert load["failed"] == load["retries"] == 0 and load["answered"] == len(responses) - len(refused) > 0
    assert all("the queue is full" in row["error"] for row in refused)
    assert 0 < load["refusal_ms"]["p50"] <= load["refusal_ms"]["max"]
    assert f"{len(refused)} by a full queue, p50" in done.stdout
    assert ",refused,refusals,refusal_p95_ms," in table.read_text()


def test_requests_of_an_open_loop_can_wait_for_room(small: Server, run_command: Any, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    rate = ("--rate", 200, "--wait-for-room", "--requests", 100, "--json", output)
    done = run_command("bench", *server_options(small), *rate)
    assert (done.returncode, done.stderr) == (0, "")
    (load,) = json.loads(output.read_text())["loads"]
    assert (load["answered"], load["failed"], load["refused"]) == (100, 0, 0)
    assert load["refusals"] == load["retries"] > 0


def test_requests_without_room_in_time_and_late_ones_are_told_apart(
    small: Server, run_command: Any, tmp_path: Path
) -> None:
    output, rows = tmp_path / "out.json", tmp_path / "rows.jsonl"
    rate = ("--rate", 300, "--wait-for-room", "--requests", 300, "--timeout", 1, "--json", output, "--rows", rows)
    done = run_command("bench", *server_options(small), *rate)
    (load,) = json.loads(output.read_text())["loads"]
    responses = [json.loads(line) for line in rows.read_text().splitlines() if '"number"' in line]
    assert load["answered"] + load["failed"] + load["refused"] == len(responses) == 300
    assert load["refused"] == sum(row["refused"] for row in responses) > 0
    assert f"{load['refused']} without room in time, p50" in done.stdout
    assert f"({load['refusals']} refusals by a full queue)" in done.stdout
    assert done.returncode == (2 if load["failed"] else 0)


def test_bench_retries_refused_requests_of_a_closed_loop(small: Server, run_command: Any, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    done = run_command("bench", *server_options(small), "--concurrency", 32, "--requests", 100, "--json", output)
    assert (done.returncode, done.stderr) == (0, "")
    (load,) = json.loads(output.read_text())["loads"]
    assert (load["answered"], load["failed"], load["refused"]) == (100, 0, 0)
    assert load["refusals"] == load["retries"] > 0
    assert "refusals by a full queue, retried" in done.stdout
