"""Processes and memory of a server."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Footprint:
    """Processes and memory of a server at one moment.

    Attributes:
        processes: Ids of the server and of its models' processes.
        memory: Bytes of all these processes; shared memory is counted once.
    """

    processes: frozenset[int]
    memory: int


def footprint(server: int) -> Footprint:
    """The footprint of the server with that process id; empty if it has ended."""
    try:
        root = psutil.Process(server)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return Footprint(frozenset(), 0)
    memory = {}
    for process in family:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                # Proportional set size, because the models' processes share memory with the server.
                memory[process.pid] = process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return Footprint(frozenset(memory), sum(memory.values()))
