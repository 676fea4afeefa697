"""Find the processes of a server."""

from __future__ import annotations

import psutil

from server.process import Server
from verification import server_processes as processes


def tritonserver_of(server: Server) -> int:
    """Process id of NVIDIA's binary, the supervisor's child."""
    return processes.tritonserver_of(server.process.pid)


def watcher_of(server: Server) -> int:
    """Process id of the watcher, the supervisor's other child."""
    children = psutil.Process(server.process.pid).children()
    (process,) = [child.pid for child in children if child.name() != "tritonserver"]
    return int(process)


def stubs_of(server: Server) -> dict[int, list[str]]:
    """The server's model processes by id, with their command lines."""
    return processes.stubs_of(server.process.pid)


def stub_of(server: Server, model: str) -> int:
    """Process id of the only instance of a model."""
    (process,) = processes.stages_of(server.process.pid)[model]
    return process
