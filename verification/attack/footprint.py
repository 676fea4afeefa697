"""Processes and memory of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Footprint:
    """Processes and memory of a server at one moment.

    Attributes:
        memory_of: Bytes by id of a process: the server and its models. Their sum counts shared memory once.
    """

    memory_of: Mapping[int, int]

    @property
    def processes(self) -> frozenset[int]:
        """Ids of the processes."""
        return frozenset(self.memory_of)

    @property
    def memory(self) -> int:
        """Bytes of all processes."""
        return sum(self.memory_of.values())


def footprint(server: int) -> Footprint:
    """The footprint of the server with that process id; empty if it has ended."""
    try:
        root = psutil.Process(server)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return Footprint({})
    memory = {}
    for process in family:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                # Proportional set size, because the models' processes share memory with the server.
                memory[process.pid] = process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return Footprint(memory)
