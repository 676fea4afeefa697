"""No process is left after tritonserver or its supervisor is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from model_processes import stubs_of, tritonserver_of
from tritonclient.grpc.aio import InferenceServerClient
from waiting import wait_until_async

from nemo_triton.audio import load_audio
from nemo_triton.errors import RecognizerError
from nemo_triton.recognizer import AsyncRecognizer
from server.orphans import end_stubs
from server.process import Server, running_server


async def completed_requests(server: Server, model: str) -> int:
    """Number of requests that the server has completed, by its own counter."""
    async with InferenceServerClient(server.grpc) as client:
        statistics = await client.get_inference_statistics(model)
        return int(statistics.model_stats[0].inference_stats.success.count)


def shared_memory(stubs: dict[int, list[str]]) -> list[Path]:
    names = [argument for arguments in stubs.values() for argument in arguments if "_shm_region_" in argument]
    return [Path("/dev/shm") / name for name in names if (Path("/dev/shm") / name).exists()]


@pytest.mark.parametrize("victim", ["supervisor", "tritonserver"])
async def test_a_server_killed_under_load_leaves_no_process(victim: str, repository: Path, demo_manifest: Path) -> None:
    samples = load_audio(next(demo_manifest.parent.glob("*.flac")))
    with running_server(repository, ["--model-control-mode=explicit", "--load-model=coffee_ctc"]) as server:
        stubs, tritonserver = stubs_of(server), tritonserver_of(server)
        regions = shared_memory(stubs)
        assert len(stubs) == len(regions) == 4
        async with AsyncRecognizer("coffee_ctc", server.grpc) as recognizer:

            async def transcribe_repeatedly() -> None:
                while True:
                    await recognizer.transcribe(samples)

            tasks = [asyncio.ensure_future(transcribe_repeatedly()) for _ in range(16)]

            async def is_loaded() -> bool:
                return await completed_requests(server, "coffee_ctc") > 2 * len(tasks)

            await wait_until_async(is_loaded)
            assert not any(task.done() for task in tasks)
            killed = server.process.pid if victim == "supervisor" else tritonserver_of(server)
            os.kill(killed, signal.SIGKILL)
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, RecognizerError) for result in results)
        await wait_until_async(lambda: not any(map(psutil.pid_exists, [*stubs, tritonserver])), seconds=30)
        assert not shared_memory(stubs)


def test_a_block_that_ends_after_its_supervisor_was_killed_leaves_no_shared_memory(repository: Path) -> None:
    with running_server(repository, ["--model-control-mode=explicit", "--load-model=coffee_ctc"]) as server:
        stubs = stubs_of(server)
        assert len(shared_memory(stubs)) == 4
        server.process.kill()
    assert not shared_memory(stubs)


def test_a_process_with_undecodable_arguments_is_ignored() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", b"\xff"], stdin=subprocess.PIPE) as other:
        end_stubs(other.pid)
        assert other.poll() is None
        other.communicate(b"\n")
    assert other.returncode == 0
