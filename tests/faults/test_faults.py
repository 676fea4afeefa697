"""Real servers whose processes are killed, and whose connections are cut, while requests are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT
from rich.progress import Progress

from benchmark.core.run_bench import Bench
from nemo_triton.audio import load_audio
from server.process import ServerError
from verification.faults.clips import make_clips
from verification.faults.injection import Fault
from verification.faults.kill_judge import problems
from verification.faults.proxy import Proxy
from verification.faults.restarting import RestartingServer
from verification.faults.soak_run import Settings, soak_servers
from verification.faults.stage_kill import kill_stage, run_undisturbed

MODELS = (DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem)
REQUESTS = 60
SEED = 11
"""The first faults: tritonserver is killed, connections are cut."""


@pytest.fixture(scope="module")
def servers(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RestartingServer]]:
    folder = tmp_path_factory.mktemp("logs")
    only = ["--model-control-mode=explicit", *(f"--load-model={model}" for model in MODELS)]
    others = set(psutil.Process().children())
    with ExitStack() as stack:
        yield [stack.enter_context(RestartingServer(repository, only, folder, name)) for name in "ab"]
    assert set(psutil.Process().children()) <= others


def test_a_killed_stage_loses_no_request(servers: list[RestartingServer], tmp_path: Path) -> None:
    bench = Bench(model=MODELS[0], url=",".join(server.url for server in servers), manifest=DEMO_MANIFEST)
    undisturbed, texts = run_undisturbed(bench, tmp_path, REQUESTS)
    stage = f"{MODELS[0]}_encoder"
    kill = kill_stage(bench, servers[1], stage, tmp_path, requests=REQUESTS, after=REQUESTS // 3, texts=texts)
    assert problems(kill, undisturbed, REQUESTS) == []
    assert undisturbed.retried == 0 < kill.requests.retried
    assert servers[1].starts == 2


def test_a_short_soak_test_has_no_wrong_text_and_loses_no_request(
    servers: list[RestartingServer], repository: Path, tmp_path: Path
) -> None:
    speech = load_audio(next(DEMO_MANIFEST.parent.glob("*.flac")))
    settings = Settings(
        repository=repository,
        folder=tmp_path,
        models=MODELS,
        clips=make_clips(speech, 0, count=10, longest=20.0),
        concurrency=4,
        seconds=8.0,
        seed=SEED,
        pause_seconds=(0.5, 1.0),
        stop_seconds=(0.5, 1.0),
        memory_seconds=1.0,
    )
    recorded = soak_servers(settings, servers, Progress(disable=True))
    assert [request for request in recorded.requests if request.wrong is not None or request.error is not None] == []
    assert {request.model for request in recorded.requests} == {*MODELS}
    assert recorded.faults[0].fault is Fault.TRITON
    assert all(fault.recovered is not None for fault in recorded.faults)
    assert {sample.server for sample in recorded.memory} == {0, 1}


def test_a_server_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="tritonserver ended"), RestartingServer(tmp_path / "none", [], tmp_path, "a"):
        pass


@pytest.mark.fast
async def test_a_proxy_forwards_and_cuts_connections() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await reader.read(100):
            writer.write(received)
        writer.close()

    listener = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, Proxy(f"127.0.0.1:{port}") as proxy:
        host, _, proxy_port = proxy.url.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(proxy_port))
        writer.write(b"sent")
        assert await reader.readexactly(4) == b"sent"
        assert proxy.cut() == 1
        assert await reader.read() == b""
        writer.close()
