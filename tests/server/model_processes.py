"""Find the processes of a server."""

from __future__ import annotations

import psutil

from server.orphans import STUB
from server.process import Server


def tritonserver_of(server: Server) -> int:
    """Process id of NVIDIA's binary, the supervisor's child."""
    children = psutil.Process(server.process.pid).children()
    (process,) = [child.pid for child in children if child.name() == "tritonserver"]
    return int(process)


def watcher_of(server: Server) -> int:
    """Process id of the watcher, the supervisor's other child."""
    children = psutil.Process(server.process.pid).children()
    (process,) = [child.pid for child in children if child.name() != "tritonserver"]
    return int(process)


def stubs_of(server: Server) -> dict[int, list[str]]:
    """The server's model processes by id, with their command lines."""
    children = psutil.Process(tritonserver_of(server)).children()
    commands = {child.pid: child.cmdline() for child in children}
    return {process: command for process, command in commands.items() if command[0].endswith(STUB)}


def stub_of(server: Server, model: str) -> int:
    """Process id of the only instance of a model."""
    (process,) = [process for process, command in stubs_of(server).items() if f"{model}_0_0" in command]
    return process
