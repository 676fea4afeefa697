"""Find the processes of a server."""

from __future__ import annotations

from contextlib import suppress

import psutil

from server.process import Server
from verification import server_processes as processes


def tritonserver_of(server: Server) -> int:
    """Process id of NVIDIA's binary, the supervisor's child."""
    return processes.tritonserver_of(server.process.pid)


def watchers_of(server: Server) -> list[int]:
    """Process ids of the supervisor's other children: the watcher, or none while it is replaced."""
    watchers = []
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if child.name() != "tritonserver":
                watchers.append(int(child.pid))
    return watchers


def stubs_of(server: Server) -> dict[int, list[str]]:
    """The server's model processes by id, with their command lines."""
    return processes.stubs_of(server.process.pid)


def stub_of(server: Server, model: str) -> int:
    """Process id of the only instance of a model."""
    (process,) = processes.stages_of(server.process.pid)[model]
    return process
