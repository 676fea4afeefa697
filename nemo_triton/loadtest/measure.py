"""One load put on the server, and all that was measured meanwhile."""

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
    """One stretch of sending; a run that was interrupted and resumed has several.

    Attributes:
        wall_seconds: From the first request to the last answer.
        counted_by_endpoint: What each server counted, of the recognizer and then of each step; empty if none could be
            asked any more.
        uncounted: Servers that came or went meanwhile, whose counters say nothing of this session.
        usages: Of each server's machine, by the URL of its metrics.
        client_cpu_seconds: Of each sending process.
        loop_lag_seconds: Of each sending process, the 95th percentile of how late it got the CPU.
        server_gone: Whether the last server went away before the end.
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
        """By all servers together."""
        return total(self.counted_by_endpoint.values())


@dataclass
class LoadRun:
    """All that was measured under one load; filled as it goes, so that an interrupted run keeps what it has.

    Attributes:
        load: What was put on the server.
        responses: In the order they came back.
        sessions: In the order of time.
    """

    load: Load
    responses: list[Response] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    @property
    def wall_seconds(self) -> float:
        """Of all sessions together."""
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
    """Send the plan's requests and fill `run`, also when this is cancelled halfway.

    Args:
        recognizer: Whose servers are asked for their counters.
        senders: Send the requests.
        plan: What is sent, and when.
        run: Gets the responses and one session.
        on_response: Called with each response as it comes.
        monitors: Of the servers' machines, watched meanwhile.
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
            usages={monitor.url: usage for monitor in monitors if (usage := monitor.usage())},
            client_cpu_seconds=effort.cpu_seconds,
            loop_lag_seconds=effort.loop_lag_seconds,
            server_gone=effort.server_gone,
        )
        after: Mapping[UpPeriod, Snapshot] = {}
        # If all servers are down, the responses of the requests in flight already say so.
        with suppress(RecognizerError):
            after = await servers.counters_by_period()
        counted = {
            period.endpoint: counted_between(before[period], after[period]) for period in before if period in after
        }
        uncounted = sorted({period.endpoint for period in {*before, *after}} - counted.keys())
        run.sessions.append(replace(session, counted_by_endpoint=counted, uncounted=tuple(uncounted)))


async def warm_up(senders: Senders, load: Load, *, recordings: int, requests: int) -> None:
    """Send requests whose results are dropped, so that the measured ones meet a server that has run before.

    Args:
        senders: Send the requests.
        load: How they are sent.
        recordings: How many there are.
        requests: How many are sent.
    """
    # Errors are dropped too: what fails here fails again, and is reported, when it is measured.
    if requests:
        plan = Plan(load, tuple(range(recordings)), shuffled=False, seed=0, requests=requests)
        await senders.run(plan, lambda response: None)


def failures(responses: Sequence[Response]) -> list[Response]:
    """The responses that are errors."""
    return [response for response in responses if response.error is not None]
