"""Find the processes of a server."""

from __future__ import annotations

import re

import psutil

from server.orphans import STUB

_INSTANCE = 8
"""Index of the instance's name in a model process's arguments."""


def tritonserver_of(supervisor: int) -> int:
    """Process id of NVIDIA's binary, a child of the supervisor.

    Raises:
        psutil.NoSuchProcess: The server has ended.
    """
    for child in psutil.Process(supervisor).children():
        if child.name() == "tritonserver":
            return int(child.pid)
    raise psutil.NoSuchProcess(supervisor)


def stubs_of(supervisor: int) -> dict[int, list[str]]:
    """The server's model processes by id, with their command lines."""
    children = psutil.Process(tritonserver_of(supervisor)).children()
    commands = {child.pid: child.cmdline() for child in children}
    return {process: command for process, command in commands.items() if command and command[0].endswith(STUB)}


def stages_of(supervisor: int) -> dict[str, list[int]]:
    """The process ids of each stage, one per instance, by name of the stage; sorted."""
    stages: dict[str, list[int]] = {}
    for process, command in stubs_of(supervisor).items():
        stages.setdefault(re.sub(r"(_\d+){2}$", "", command[_INSTANCE]), []).append(process)
    return dict(sorted(stages.items()))
