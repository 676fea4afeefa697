"""A server with a dead model process ends; the supervisor is in the server's place for everyone else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from model_processes import stub_of, stubs_of, tritonserver_of, watchers_of
from tritonclient.grpc import InferenceServerClient
from waiting import wait_until

from nemo_triton.audio import load_audio
from nemo_triton.errors import UnavailableError
from nemo_triton.recognizer import AsyncRecognizer
from server.cgroup import oom_kills
from server.model_processes import SUPERVISOR_VARIABLE, ModelProcesses, describe_status
from server.orphans import shared_memory_of
from server.process import Server, running_server

STAGES = ("audio", "mel", "coffee_ctc_encoder", "coffee_ctc_decoder")
INSTANCE = 8
"""Index of the instance's name in a stub's arguments."""
ONLY_CTC = ("--model-control-mode=explicit", "--load-model=coffee_ctc")


@pytest.fixture
def server(repository: Path) -> Iterator[Server]:
    with running_server(repository, ONLY_CTC) as server:
        yield server


@pytest.mark.parametrize("stage", STAGES)
async def test_a_server_whose_model_process_dies_ends(stage: str, server: Server, demo_manifest: Path) -> None:
    samples = load_audio(next(demo_manifest.parent.glob("*.flac")))
    regions = [shared_memory_of(process) for process in stubs_of(server)]
    assert len(regions) == 4 and all(region and region.exists() for region in regions)
    instance, victim = next(
        (command[INSTANCE], process)
        for process, command in stubs_of(server).items()
        if command[INSTANCE].startswith(stage)
    )
    async with AsyncRecognizer("coffee_ctc", server.grpc) as recognizer:

        async def transcribe_repeatedly() -> None:
            while True:
                await recognizer.transcribe(samples)

        tasks = [asyncio.ensure_future(transcribe_repeatedly()) for _ in range(8)]
        await recognizer.transcribe(samples)
        os.kill(victim, signal.SIGKILL)
        code = await asyncio.to_thread(server.process.wait, 5)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert code == 1
    assert f"error: the process of model instance {instance} (process {victim}) was killed by SIGKILL; " in (
        server.log.read_text()
    )
    assert all(isinstance(result, UnavailableError) for result in results), results
    assert all("the server went down" in str(result) for result in results)
    wait_until(lambda: not psutil.pid_exists(victim))
    assert not any(region and region.exists() for region in regions)


def test_an_unloaded_model_does_not_end_the_server(server: Server) -> None:
    with InferenceServerClient(server.grpc) as client:
        before = stubs_of(server)
        client.load_model("coffee_rnnt")
        loaded = stub_of(server, "coffee_rnnt_encoder")
        loaded_count = len(stubs_of(server))
        client.unload_model("coffee_rnnt", unload_dependents=True)
        wait_until(lambda: not psutil.pid_exists(loaded))
        wait_until(lambda: len(stubs_of(server)) < loaded_count)
        assert stubs_of(server).keys() >= before.keys()
        assert client.is_model_ready("coffee_ctc")


def test_a_killed_watcher_is_replaced(server: Server) -> None:
    (first,) = watchers_of(server)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: any(watcher != first for watcher in watchers_of(server)))
    stub = stub_of(server, "coffee_ctc_encoder")
    server.process.kill()
    wait_until(lambda: not psutil.pid_exists(stub))


def test_a_signal_that_ends_tritonserver_is_named(server: Server) -> None:
    os.kill(tritonserver_of(server), signal.SIGKILL)
    assert server.process.wait(10) == 128 + signal.SIGKILL
    assert "error: tritonserver was killed by SIGKILL\n" in server.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_ends_with_code_0(number: signal.Signals, server: Server) -> None:
    # As a terminal does: the signal reaches the supervisor and tritonserver.
    os.killpg(server.process.pid, number)
    assert server.process.wait(30) == 0
    assert "error: " not in server.log.read_text()


@pytest.mark.fast
def test_a_process_that_the_kernel_killed_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    before = oom_kills()
    processes = ModelProcesses()
    counts = iter([before, before + 1])
    monkeypatch.setattr("server.model_processes.oom_kills", lambda: next(counts))
    ends = [processes.describe_end(signal.SIGKILL) for _ in range(2)]
    assert ends == ["was killed by SIGKILL", "was killed by SIGKILL; out of memory"]


@pytest.mark.fast
@pytest.mark.usefixtures("backend_modules")
def test_shared_memory_of_a_process_that_unloaded_its_model_is_freed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    region = tmp_path / "region"
    region.touch()
    monkeypatch.setattr("server.model_processes.shared_memory_of", lambda process: region)
    processes = ModelProcesses()
    monkeypatch.setenv(SUPERVISOR_VARIABLE, processes.environment[SUPERVISOR_VARIABLE])
    from supervision import Supervision

    supervision = Supervision("coffee_ctc_encoder_0_0")
    connection = processes.accept()
    assert connection and processes.receive(connection)
    supervision.end()
    assert processes.receive(connection) and not processes.receive(connection)
    assert processes.death(connection) is None, "it ended as planned"
    processes.free_shared_memory()
    assert not region.exists()


@pytest.mark.fast
def test_how_a_process_ended() -> None:
    statuses = []
    for line in ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "raise SystemExit(3)"):
        process = subprocess.Popen([sys.executable, "-c", line])
        statuses.append(os.waitpid(process.pid, 0)[1])
        process.returncode = 0
    assert [*map(describe_status, statuses)] == ["was killed by SIGSEGV", "ended with code 3"]


def test_an_encoder_steps_back_for_the_other_stages(server: Server) -> None:
    encoder, decoder = (psutil.Process(stub_of(server, f"coffee_ctc_{part}")) for part in ("encoder", "decoder"))
    assert encoder.nice() == decoder.nice() + 5
