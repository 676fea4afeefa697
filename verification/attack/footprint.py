"""What a server takes: its processes and their memory."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Footprint:
    """processes: ids of the server and its models' processes; memory: bytes, what processes share counted once."""

    processes: frozenset[int]
    memory: int


def footprint(server: int) -> Footprint:
    """Of the server with that process id; of one that is gone, nothing."""
    try:
        root = psutil.Process(server)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return Footprint(frozenset(), 0)
    memory = {}
    for process in family:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                # Proportional, since the models' processes share memory with the server.
                memory[process.pid] = process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return Footprint(frozenset(memory), sum(memory.values()))
