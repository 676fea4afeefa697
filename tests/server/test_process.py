"""A server for the duration of a `with` block."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tritonclient.grpc import InferenceServerClient

from server.process import ServerError, running_server

HOLD = """
import sys, time
from pathlib import Path
from server.process import running_server
with running_server(Path(sys.argv[1])) as server:
    print(server.process.pid, flush=True)
    time.sleep(600)
"""


def is_running(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_the_server_ends_with_the_block(repository: Path) -> None:
    with running_server(repository) as server:
        assert is_running(server.process.pid)
    assert server.process.returncode is not None


def test_a_killed_server_leaves_no_process(repository: Path) -> None:
    with running_server(repository) as server:
        group = server.process.pid
        assert len(running_in(group)) > 1
        server.process.kill()
    deadline = time.monotonic() + 10
    while running_in(group):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def running_in(group: int) -> list[int]:
    """The running processes of a process group."""
    processes = []
    for process in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getpgid(process) == group and is_running(process):
                processes.append(process)
    return processes


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_grpc_listens_at_the_given_address(repository: Path, address: str) -> None:
    with socket.create_server((address, 0)) as listener:
        free = f"{address}:{listener.getsockname()[1]}"
    with running_server(repository, grpc=free) as server, InferenceServerClient(free) as client:
        assert server.grpc == free
        assert client.is_server_live()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_a_killed_parent(repository: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", HOLD, str(repository)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server = int(parent.stdout.readline())
    os.kill(parent.pid, number)
    parent.wait()
    deadline = time.monotonic() + 60
    while is_running(server):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerError) as failure, running_server(tmp_path / "none"):
        pass
    first, *log = str(failure.value).splitlines()
    assert first == "tritonserver ended with code 1:"
    assert any("failed to stat file" in line for line in log)
