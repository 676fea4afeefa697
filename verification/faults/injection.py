"""Faults of a server, and how to inject them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from verification.faults.proxy import Proxy
from verification.faults.restarting import RestartingServer
from verification.server_processes import stubs_of, tritonserver_of

RECOVERY_SECONDS = 120.0
"""Longest wait for a server that recovers."""
_POLL_SECONDS = 0.05


class Fault(Enum):
    """What happens to a server."""

    STAGE = "model process killed"
    TRITON = "tritonserver killed"
    SUPERVISOR = "supervisor killed"
    STOP = "all processes stopped, then continued"
    CUT = "connections cut"


ENDS_WITH = {Fault.STAGE: 1, Fault.TRITON: 128 + signal.SIGKILL, Fault.SUPERVISOR: -signal.SIGKILL}
"""Exit codes of the faults that end a server, as of subprocess."""


@dataclass(kw_only=True)
class Injected:
    """A fault of one server. Times are those of time.monotonic().

    Attributes:
        fault: What happened.
        server: Index of the server.
        at: When it happened.
        gone_until: Requests sent after this time can be answered by the recovered server; None until it is known.
        recovered: First response to such a request; None if there was none.
        code: Exit code of the server; None if it did not end.
    """

    fault: Fault
    server: int
    at: float
    gone_until: float | None = None
    recovered: float | None = None
    code: int | None = None

    @property
    def recovery_seconds(self) -> float | None:
        """Seconds from the fault to the first response after it."""
        return None if self.recovered is None else self.recovered - self.at


def draw_faults(rng: np.random.Generator) -> Iterator[Fault]:
    """Yield faults without end: all kinds in random order, then all again."""
    kinds = list(Fault)
    while True:
        for index in rng.permutation(len(kinds)):
            yield kinds[index]


async def inject(
    fault: Fault, index: int, server: RestartingServer, proxy: Proxy, rng: np.random.Generator, stop_seconds: float
) -> Injected:
    """Inject a fault, and wait until its cause is over: the server is ready again, or continues.

    Args:
        fault: The fault.
        index: Index of the server.
        server: The server; it is ready.
        proxy: Proxy in front of it.
        rng: Chooses the model process.
        stop_seconds: Time until a stopped server continues.
    """
    injected = Injected(fault=fault, server=index, at=time.monotonic())
    if fault is Fault.CUT:
        proxy.cut()
        injected.gone_until = injected.at
    elif fault is Fault.STOP:
        # The server's processes are a group, which does not include this process.
        os.killpg(server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(stop_seconds)
        finally:
            os.killpg(server.pid, signal.SIGCONT)
        injected.gone_until = time.monotonic()
    else:
        os.kill(_victim(fault, server.pid, rng), signal.SIGKILL)
        await until(lambda: server.outage_after(injected.at).ready is not None, RECOVERY_SECONDS)
        outage = server.outage_after(injected.at)
        injected.gone_until, injected.code = outage.ready, outage.code
    return injected


def _victim(fault: Fault, supervisor: int, rng: np.random.Generator) -> int:
    if fault is Fault.STAGE:
        return int(rng.choice(sorted(stubs_of(supervisor))))
    return tritonserver_of(supervisor) if fault is Fault.TRITON else supervisor


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds, `seconds` at most."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
