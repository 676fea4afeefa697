"""Run tritonserver for the duration of a `with` block. For tests, the demo and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from server.access import ADMIN, HTTP_INFERENCE, OPEN

_END_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Program that stops the server when this process is killed, and then becomes the server.

Not a preexec_fn: if gRPC is busy, about one in five forks crashes before the program starts.
"""
STOP_SECONDS = 40
"""A little more than Triton's own limit for requests in flight."""
_WATCHER_SECONDS = 5


class ServerError(Exception):
    """The server did not start. The message ends with the last lines of its log."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        grpc: Address of the gRPC endpoint as host:port.
        http: Address of the HTTP endpoint as host:port.
        metrics: Address of the metrics as host:port.
        log: File with the server's output.
        process: Process of the server's supervisor, which ends with the server's code.
    """

    grpc: str
    http: str
    metrics: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def running_server(
    repository: Path,
    arguments: Sequence[str] = (),
    log: Path | None = None,
    seconds: float = 120,
    grpc: str | None = None,
    opened: Sequence[str] = (ADMIN, HTTP_INFERENCE),
) -> Iterator[Server]:
    """Serve a model repository on free ports of this machine until the block ends.

    Args:
        repository: The model repository.
        arguments: More arguments for tritonserver.
        log: The file for the server's output. By default a temporary file.
        seconds: The time limit for loading the models.
        grpc: The address for gRPC, as host:port of this machine. By default a free port on 127.0.0.1.
        opened: What clients may do besides requests by gRPC (server/access.py). Only this machine reaches the server.

    Raises:
        ServerError: The server ended or is not ready in time.
    """
    command = Path(sys.prefix) / "bin" / "tritonserver"
    with ExitStack() as stack:
        if log is None:
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "tritonserver.log"
        http, free_port, metrics = _free_ports(3)
        grpc = grpc or f"127.0.0.1:{free_port}"
        address, _, port = grpc.rpartition(":")
        ports = [f"--http-port={http}", f"--grpc-port={port}", f"--metrics-port={metrics}"]
        # By default gRPC listens on all networks, but anyone who reaches this server may load models.
        addresses = [f"--grpc-address={address}"]
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _END_WITH_PARENT,
                str(command),
                f"--model-repository={repository}",
                *ports,
                *addresses,
                *([f"{OPEN}={','.join(opened)}"] if opened else []),
                *arguments,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stack.callback(_stop, process)
        server = Server(grpc, f"127.0.0.1:{http}", f"127.0.0.1:{metrics}", log, process)
        _wait_until_ready(server, seconds)
        yield server


def _wait_until_ready(server: Server, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise ServerError(f"tritonserver ended with code {server.process.returncode}:\n{_tail(server.log)}")
        if is_ready(server.http):
            return
        time.sleep(0.2)
    raise ServerError(f"tritonserver was not ready after {seconds:.0f} s:\n{_tail(server.log)}")


def is_ready(http: str, seconds: float = 5) -> bool:
    """Whether the server says that it is ready.

    Args:
        http: Address of its HTTP endpoint as host:port.
        seconds: Time after which a server that does not answer is not ready.
    """
    connection = HTTPConnection(http, timeout=seconds)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.returncode < 0:
        # A killed supervisor leaves the server behind until the watcher (server/orphans.py) has ended it. A process
        # killed here leaves its shared memory.
        deadline = time.monotonic() + _WATCHER_SECONDS
        while _group_exists(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _group_exists(group: int) -> bool:
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
