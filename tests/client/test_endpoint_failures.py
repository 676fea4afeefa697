"""Servers that crash, hang or come back with another export, while a client sends requests to several."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench_files import Spoken
from google.protobuf import text_format
from several_servers import Loop, Serve, both, restart, settled_count
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.grpc.service_pb2 import ModelConfigResponse, ModelStatistics, ModelStatisticsResponse
from tritonclient.utils import InferenceServerException
from waiting import wait_until, wait_until_async

from nemo_triton.audio import Samples
from nemo_triton.connections import run_calls
from nemo_triton.endpoints import Endpoints
from nemo_triton.errors import UnavailableError
from nemo_triton.recognizer import AsyncRecognizer, Recognizer
from server.process import Server
from verification.server_processes import stages_of


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_requests_survive_a_server_that_stops_and_it_is_used_again(
    mortal: tuple[Server, Server],
    serve: Serve,
    triton: Any,
    recordings: list[Samples],
    served_texts: list[str],
    number: signal.Signals,
    caplog: pytest.LogCaptureFixture,
) -> None:
    victim, survivor = mortal
    with ExitStack() as stack:
        async with AsyncRecognizer(triton.model, both(mortal)) as recognizer:
            loop = Loop(recognizer, recordings)
            await loop.until(lambda: len(loop.answers) > 40)
            victim.process.send_signal(number)
            await asyncio.to_thread(victim.process.wait)
            ended = len(loop.answers)
            await loop.until(lambda: len(loop.answers) > ended + 40)
            assert loop.by_endpoint(ended + 6).keys() == {survivor.grpc}
            back = await asyncio.to_thread(restart, serve, victim, stack)
            started = len(loop.answers)
            await loop.until(lambda: loop.by_endpoint(started)[victim.grpc] > 20)
            await loop.stop()
            assert settled_count(back, triton.model) == loop.by_endpoint(started)[victim.grpc]
    loop.check(served_texts)
    (warning,) = caplog.messages
    assert warning.startswith(f"{victim.grpc}: not used until it recovers; other servers get its requests (")


async def test_requests_survive_the_death_of_a_model_process(
    mortal: tuple[Server, Server],
    triton: Any,
    recordings: list[Samples],
    served_texts: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    victim, survivor = mortal
    async with AsyncRecognizer(triton.model, both(mortal)) as recognizer:
        loop = Loop(recognizer, recordings)
        await loop.until(lambda: len(loop.answers) > 40)
        (encoder,) = stages_of(victim.process.pid)[f"{triton.model}_encoder"]
        os.kill(encoder, signal.SIGKILL)
        await loop.until(lambda: bool(caplog.messages))
        since = len(loop.answers)
        await loop.until(lambda: len(loop.answers) > since + 100)
        await loop.stop()
    # Such a server takes half a minute to stop.
    victim.process.kill()
    loop.check(served_texts)
    assert loop.by_endpoint(since + 6).keys() == {survivor.grpc}
    # The server still says that it is ready, or it has ended.
    assert caplog.messages[0].startswith((f"{victim.grpc}: ejected for", f"{victim.grpc}: not used until"))


async def test_requests_survive_a_server_that_hangs(
    mortal: tuple[Server, Server], triton: Any, recordings: list[Samples], served_texts: list[str]
) -> None:
    victim, survivor = mortal
    async with AsyncRecognizer(triton.model, both(mortal)) as recognizer:
        loop = Loop(recognizer, recordings)
        await loop.until(lambda: len(loop.answers) > 20)
        os.killpg(victim.process.pid, signal.SIGSTOP)
        try:
            since = len(loop.answers)
            (hanging,) = (endpoint for endpoint in recognizer.endpoints if endpoint.name == victim.grpc)
            # The first responses of the other server were already on their way.
            await loop.until(lambda: loop.by_endpoint(since)[survivor.grpc] > 12 and hanging.in_flight > 0)
            stopping = asyncio.ensure_future(loop.stop())
            await asyncio.wait_for(stopping, 60)
            assert loop.answers[-1][1].endpoint == survivor.grpc
        finally:
            os.killpg(victim.process.pid, signal.SIGCONT)
    loop.check(served_texts)


async def test_a_single_server_that_hangs_fails_its_requests_long_before_their_deadline(
    serve: Serve, triton: Any, recordings: list[Samples]
) -> None:
    with serve() as server, Recognizer(triton.model, server.grpc) as blocking:
        async with AsyncRecognizer(triton.model, server.grpc) as recognizer:
            await recognizer.transcribe(recordings[0])
            os.killpg(server.process.pid, signal.SIGSTOP)
            try:
                results = await asyncio.wait_for(
                    asyncio.gather(
                        recognizer.transcribe(recordings[0]),
                        asyncio.to_thread(blocking.transcribe, recordings[0]),
                        return_exceptions=True,
                    ),
                    60,
                )
                # The next request does not wait long for a connection either.
                with pytest.raises(UnavailableError, match="the server hangs or can't be reached"):
                    await asyncio.wait_for(recognizer.transcribe(recordings[0]), 60)
            finally:
                os.killpg(server.process.pid, signal.SIGCONT)
            for error in results:
                assert isinstance(error, UnavailableError)
                assert str(error).startswith(f"{triton.model} at {server.grpc}: the server hangs or can't be reached (")
                assert str(error).endswith("); restart it, or check the network")
            assert await asyncio.to_thread(blocking.transcribe, recordings[0])


def test_requests_of_threads_survive_a_killed_server(
    mortal: tuple[Server, Server], serve: Serve, triton: Any, recordings: list[Samples], served_texts: list[str]
) -> None:
    victim, survivor = mortal
    with Recognizer(triton.model, both(mortal)) as recognizer, ThreadPoolExecutor(6) as threads, ExitStack() as stack:
        waiting = [threads.submit(recognizer.transcribe, samples) for samples in recordings * 10]
        waiting[60].result()
        victim.process.kill()
        done = [future.result() for future in waiting]
        assert [transcript.text for transcript in done] == served_texts * 10
        assert {transcript.endpoint for transcript in done[-40:]} == {survivor.grpc}
        restart(serve, victim, stack)
        wait_until(lambda: recognizer.transcribe(recordings[0]).endpoint == victim.grpc)


def test_a_killed_server_is_one_line_for_the_user(
    mortal: tuple[Server, Server], start_command: Any, triton: Any, spoken: Spoken, served_texts: list[str]
) -> None:
    paths = [path for path, _ in spoken] * 15
    process = start_command("transcribe", *paths, "--url", both(mortal))
    lines = [process.stdout.readline() for _ in range(40)]
    mortal[0].process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    stderr = process.stderr.read()
    assert process.wait(timeout=60) == 0
    expected = [f"{path}\t{text}\n" for path, text in zip(paths, served_texts * 15, strict=True)]
    assert lines == expected
    assert stderr.startswith(f"warning: {mortal[0].grpc}: not used until it recovers") and stderr.count("\n") == 1


async def test_a_server_that_comes_back_with_another_export_is_left_out(
    mortal: tuple[Server, Server],
    serve: Serve,
    repository: Path,
    triton: Any,
    recordings: list[Samples],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(repository, tmp_path / "models")
    config = tmp_path / "models" / triton.model / "config.pbtxt"
    victim, survivor = mortal
    async with AsyncRecognizer(triton.model, both(mortal)) as recognizer:
        config.write_text(config.read_text().replace(str(recognizer.model.parity_id), "0123456789abcdef"))
        victim.process.kill()
        victim.process.wait()
        with serve(victim.grpc, tmp_path / "models"):
            (changed,) = (endpoint for endpoint in recognizer.endpoints if endpoint.name == victim.grpc)
            await wait_until_async(lambda: "is another export" in (changed.problem or ""))
            endpoints = {(await recognizer.transcribe(samples)).endpoint for samples in recordings[:6]}
    assert endpoints == {survivor.grpc}
    assert [message.split(":")[0] for message in caplog.messages] == ["127.0.0.1"]


class DyingConnection:
    """Triton's client of a server that crashes on every request and comes back soon after."""

    def __init__(self, config: Any) -> None:
        self.requests = 0
        self.alive = True
        self._config = config

    def infer(self, **arguments: Any) -> None:
        self.requests += 1
        self.alive = False
        raise InferenceServerException("Socket closed", "StatusCode.UNAVAILABLE")

    def is_server_live(self, client_timeout: float) -> bool:
        if not self.alive:
            raise InferenceServerException("Connection refused", "StatusCode.UNAVAILABLE")
        return True

    def get_inference_statistics(self, client_timeout: float) -> Any:
        return ModelStatisticsResponse(model_stats=[ModelStatistics(name=self._config.name)])

    def get_model_config(self, model_name: str, client_timeout: float) -> Any:
        return ModelConfigResponse(config=self._config)


def test_a_request_that_crashes_servers_is_not_retried_forever(repository: Path, triton: Any) -> None:
    # No request crashes our models, so the servers are simulated.
    text = (repository / triton.model / "config.pbtxt").read_text()
    connections = [DyingConnection(text_format.Parse(text, ModelConfig())) for _ in range(3)]
    unopened = iter(connections)
    endpoints = Endpoints(("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"), None, lambda address: next(unopened))
    run_calls(endpoints.connect(triton.model))
    steps = endpoints.recognition(endpoints.model, {}, seconds=60, audio_seconds=1)
    step: Any = next(steps)
    with pytest.raises(UnavailableError, match="Socket closed") as failed:
        while True:
            if step.method == "infer":
                # The servers that crashed before are back.
                for connection in connections:
                    connection.alive = True
                run_calls(endpoints.check())
            try:
                result = getattr(step.endpoint.connection, step.method)(**step.arguments)
            except InferenceServerException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    assert [connection.requests for connection in connections] == [2, 2, 2]
    assert failed.value.attempts == 6
