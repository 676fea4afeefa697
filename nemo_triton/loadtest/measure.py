"""One load on the servers, and everything that is measured during it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace

from nemo_triton.errors import RecognizerError
from nemo_triton.loadtest.recording import Response
from nemo_triton.loadtest.schedule import Load, Plan
from nemo_triton.loadtest.sender import Effort, OnResponse, Senders
from nemo_triton.loadtest.server_counters import Snapshot, counted_between, total
from nemo_triton.loadtest.server_metrics import Monitor, Usage
from nemo_triton.loadtest.servers import Servers, UpPeriod
from nemo_triton.recognizer import AsyncRecognizer


@dataclass(frozen=True, kw_only=True)
class Session:
    """One period of sending; a load that was interrupted and resumed has several.

    Attributes:
        wall_seconds: From the first request to the last response.
        counted_by_endpoint: Each server's counters of the recognizer and its stages during the session; empty if no
            server answered at the end.
        uncounted: Servers that came or went during the session, so that their counters don't cover it.
        usages: CPU, GPU and memory of each server's machine, by the URL of its metrics.
        client_cpu_seconds: CPU time of each sending process.
        loop_lag_seconds: For each sending process, the 95th percentile of how late its event loop woke up.
        server_gone: Whether the last server went down before the end.
    """

    wall_seconds: float
    counted_by_endpoint: Mapping[str, Snapshot] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    usages: Mapping[str, Usage] = field(default_factory=dict)
    client_cpu_seconds: tuple[float, ...] = ()
    loop_lag_seconds: tuple[float, ...] = ()
    server_gone: bool = False

    @property
    def counted(self) -> Snapshot:
        """Counters of all servers together."""
        return total(self.counted_by_endpoint.values())


@dataclass
class LoadRun:
    """Measurements under one load; filled during the load, so that an interrupted run keeps its results.

    Attributes:
        load: The closed or open loop.
        responses: Responses in the order of arrival.
        sessions: Sessions in the order of time.
    """

    load: Load
    responses: list[Response] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    @property
    def wall_seconds(self) -> float:
        """Seconds of all sessions together."""
        return sum(session.wall_seconds for session in self.sessions)


async def measure(
    recognizer: AsyncRecognizer,
    senders: Senders,
    plan: Plan,
    run: LoadRun,
    *,
    on_response: OnResponse = lambda response: None,
    monitors: Sequence[Monitor] = (),
) -> None:
    """Send the plan's requests and fill `run`, even if this is cancelled halfway.

    Args:
        recognizer: A connected recognizer, whose servers' counters are read before and after.
        senders: Senders of the requests.
        plan: The requests.
        run: Measurements that get the responses and one session.
        on_response: Function that is called with each response as it arrives.
        monitors: Sample the metrics of the servers' machines.
    """
    servers = Servers(recognizer)

    def note(response: Response) -> None:
        run.responses.append(response)
        on_response(response)

    before = await servers.counters_by_period()
    effort, answered_before = Effort(), len(run.responses)
    started = time.monotonic()
    try:
        async with AsyncExitStack() as stack:
            for monitor in monitors:
                await stack.enter_async_context(monitor.watching())
            effort = await senders.run(plan, note)
    finally:
        last = max((response.answered for response in run.responses[answered_before:]), default=0.0)
        session = Session(
            wall_seconds=last or time.monotonic() - started,
            client_cpu_seconds=effort.cpu_seconds,
            loop_lag_seconds=effort.loop_lag_seconds,
            server_gone=effort.server_gone,
        )
        after: Mapping[UpPeriod, Snapshot] = {}
        # If all servers are down, the failed requests already say so.
        with suppress(RecognizerError):
            after = await servers.counters_by_period()
        counted = {
            period.endpoint: counted_between(before[period], after[period]) for period in before if period in after
        }
        usages = {
            monitor.url: usage
            for monitor in monitors
            if await monitor.confirm(servers) and (usage := monitor.usage()) is not None
        }
        uncounted = sorted({period.endpoint for period in {*before, *after}} - counted.keys())
        run.sessions.append(replace(session, counted_by_endpoint=counted, uncounted=tuple(uncounted), usages=usages))


async def warm_up(senders: Senders, load: Load, *, recordings: int, requests: int) -> None:
    """Send requests before the measurement and drop their results, so that the server is warm.

    Args:
        senders: Senders of the requests.
        load: The closed or open loop.
        recordings: Number of recordings.
        requests: Number of requests.
    """
    # Errors are dropped too: a request that fails here fails again in the measurement and is reported there.
    if requests:
        plan = Plan(load, tuple(range(recordings)), shuffled=False, seed=0, requests=requests)
        await senders.run(plan, lambda response: None)


def failures(responses: Sequence[Response]) -> list[Response]:
    """Select the responses that are errors, without requests that a full queue refused in an open loop."""
    return [response for response in responses if response.error is not None and not response.refused]
