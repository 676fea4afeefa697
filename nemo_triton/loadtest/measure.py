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
from nemo_triton.loadtest.server_counters import Snapshot, in_all, spent
from nemo_triton.loadtest.server_metrics import Monitor, Usage
from nemo_triton.recognizer import AsyncRecognizer, Joined


@dataclass(frozen=True)
class Session:
    """One stretch of sending; a run that was interrupted and resumed has several.

    wall_seconds: from the first request to the last answer
    counted_by_target: by each server, of the recognizer and then of each step; empty where none could be asked any more
    uncounted: servers that came or went meanwhile, whose counters say nothing of this session
    usages: of each server's machine, by the URL of its metrics
    client_cpu_seconds: of each sending process
    loop_lag_seconds: of each, the 95th percentile of how late it got the CPU
    """

    wall_seconds: float
    counted_by_target: Mapping[str, Snapshot] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    usages: Mapping[str, Usage] = field(default_factory=dict)
    client_cpu_seconds: tuple[float, ...] = ()
    loop_lag_seconds: tuple[float, ...] = ()
    server_gone: bool = False

    @property
    def counted(self) -> Snapshot:
        """By all servers together."""
        return in_all(self.counted_by_target.values())


@dataclass
class LoadRun:
    """All that was measured under one load; filled while it goes, so that an interrupted run keeps what it has."""

    load: Load
    responses: list[Response] = field(default_factory=list)
    """In the order they came back."""
    sessions: list[Session] = field(default_factory=list)

    @property
    def wall_seconds(self) -> float:
        return sum(session.wall_seconds for session in self.sessions)


async def measure(
    recognizer: AsyncRecognizer,
    senders: Senders,
    plan: Plan,
    run: LoadRun,
    on_response: OnResponse = lambda response: None,
    monitors: Sequence[Monitor] = (),
) -> None:
    """Send the plan's requests and fill `run`, also when this is cancelled halfway."""

    def note(response: Response) -> None:
        run.responses.append(response)
        on_response(response)

    before = await recognizer.counters_by_target()
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
        after: Mapping[Joined, Snapshot] = {}
        # Where all servers went away, each request that they left unanswered already says so.
        with suppress(RecognizerError):
            after = await recognizer.counters_by_target()
        counted = {joined.target: spent(before[joined], after[joined]) for joined in before if joined in after}
        uncounted = sorted({joined.target for joined in {*before, *after}} - counted.keys())
        run.sessions.append(replace(session, counted_by_target=counted, uncounted=tuple(uncounted)))


async def warm_up(senders: Senders, load: Load, recordings: int, requests: int) -> None:
    """Send requests whose results are dropped, so that the measured ones meet a server that has run before."""
    # Errors are dropped too: what fails here fails again, and is reported, when it is measured.
    if requests:
        plan = Plan(load, tuple(range(recordings)), shuffled=False, seed=0, requests=requests)
        await senders.run(plan, lambda response: None)


def failures(responses: Sequence[Response]) -> list[Response]:
    return [response for response in responses if response.error is not None]
