"""One run of a load test: read the audio, put one load after the other on the server, keep everything."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nemo_triton.audio import load_audio
from nemo_triton.concurrency import map_in_order
from nemo_triton.errors import AudioError
from nemo_triton.loadtest.figures import failure_line
from nemo_triton.loadtest.measure import LoadRun, measure, warm_up
from nemo_triton.loadtest.provenance import machine, versions
from nemo_triton.loadtest.recording import Recording, Response, digest
from nemo_triton.loadtest.run_log import RunLog
from nemo_triton.loadtest.schedule import ClosedLoop, Load, Order, Plan, ordered
from nemo_triton.loadtest.sender import LocalSenders, Senders
from nemo_triton.loadtest.sender_processes import Assignment, ProcessSenders
from nemo_triton.loadtest.server_metrics import Monitor, default_metrics_url
from nemo_triton.loadtest.servers import Servers
from nemo_triton.loadtest.shared_audio import Block, SharedAudio
from nemo_triton.manifest import Utterance
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.tls import Tls

_FILES_READ_AT_ONCE = 4

Advance = Callable[[], None]
"""Counts one step of a task."""


class Reporter(Protocol):
    """Shows a user what happens while a load test runs."""

    def problem(self, line: str) -> None:
        """Show one line about an utterance without a result, or about the run."""

    def begin_task(self, description: str, total: int | None) -> Advance:
        """Show that a task of so many steps begins; None is an unknown number of steps."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What is measured, and how.

    Attributes:
        model: The recognizer's name; None takes the only one that the server has.
        url: host:port of the servers, separated by commas.
        timeout: Seconds one recognition may take.
        tls: For servers with TLS.
        loads: Put on the server one after the other.
        requests: Under each load; see Plan.
        seconds: Of sending under each load; see Plan.
        order: Of the utterances.
        seed: Of orders and arrivals.
        processes: That send.
        shared_memory: Whether the server reads the audio from this machine's shared memory.
        retries: How many times a request is sent again if the server is down or has no room.
        warmup: Requests that are sent before the clock starts.
        metrics_urls: Of Triton's metrics; empty takes port 8002 of each server.
        rows: The file of the run log; None writes none.
        resume: Whether to go on with the run that wrote `rows`.
    """

    model: str | None
    url: str
    timeout: float
    tls: Tls | None
    loads: Sequence[Load]
    requests: int | None
    seconds: float | None
    order: Order
    seed: int
    processes: int
    shared_memory: bool
    retries: int
    warmup: int
    metrics_urls: Sequence[str]
    rows: Path | None
    resume: bool


@dataclass
class BenchRun:
    """Holds what is measured so far, so that an interrupt loses none of it.

    Attributes:
        settings: What is measured, and how.
        reporter: Shows progress and problems.
        recordings: What is sent.
        runs: One for each load that was begun.
        problems: A line for each utterance that no request was sent for.
        notes: A line for each thing that kept the run from its end.
        complete: Whether every load was put on the server to its end.
        server: Name and version of the server.
        dataset: SHA-256 of the recordings and their texts.
    """

    settings: RunSettings
    reporter: Reporter
    recordings: list[Recording] = field(default_factory=list)
    runs: list[LoadRun] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = False
    server: str = ""
    dataset: str = ""
    _servers_changed: bool = field(default=False, init=False)
    """Whether answers of earlier sessions came from servers that this one does not use."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.recognizer = AsyncRecognizer(settings.model, settings.url, settings.timeout, settings.tls)
        self.servers = Servers(self.recognizer)
        self.monitors: dict[str, Monitor] = {}

    def fail(self, line: str) -> None:
        """Note and report an utterance that has no result."""
        self.problems.append(line)
        self.reporter.problem(line)

    def note(self, line: str) -> None:
        """Note and report what is about the run and no single request."""
        self.notes.append(line)
        self.reporter.problem(line)

    @property
    def answered(self) -> int:
        """Requests with a text."""
        return sum(response.error is None for run in self.runs for response in run.responses)

    async def measure(self, utterances: Sequence[Utterance]) -> None:
        """Connect, read all audio, warm up, then put each load on the server."""
        async with self.recognizer:
            self.server = await self.servers.version()
            await self._read_all(utterances)
            if not self.recordings:
                return
            with ExitStack() as stack:
                run_log = self._open_run_log()
                if run_log:
                    stack.callback(run_log.close)
                async with self._senders() as senders:
                    await self._put_all(senders, run_log)

    async def _put_all(self, senders: Senders, run_log: RunLog | None) -> None:
        loads = self.settings.loads
        await warm_up(senders, loads[0], recordings=len(self.recordings), requests=self.settings.warmup)
        for place, load in enumerate(loads):
            if not await self._put(load, senders, run_log):
                for later in loads[place + 1 :]:
                    self.note(f"{later.name}: not begun, since the server went away")
                return
        self.complete = True

    async def _read_all(self, utterances: Sequence[Utterance]) -> None:
        advance = self.reporter.begin_task("reading audio", total=len(utterances))
        async with aclosing(map_in_order(self._read, utterances, _FILES_READ_AT_ONCE)) as results:
            async for recording in results:
                advance()
                if recording is not None:
                    self.recordings.append(recording)
        self.dataset = digest(self.recordings)

    async def _read(self, utterance: Utterance) -> Recording | None:
        try:
            return Recording(utterance, await asyncio.to_thread(load_audio, utterance.audio))
        except AudioError as error:
            self.fail(str(error))
            return None

    def _open_run_log(self) -> RunLog | None:
        settings = self.settings
        if settings.rows is None:
            return None
        if not settings.resume:
            return RunLog.begin(settings.rows, self._identity(), self.recordings)
        run_log, self.runs = RunLog.resume(settings.rows, self._identity(), self.recordings, settings.loads)
        self._servers_changed = not self._answering() <= {*self.servers.names}
        return run_log

    def _answering(self) -> set[str]:
        """The servers that answered, those of earlier sessions included."""
        return {response.endpoint for run in self.runs for response in run.responses if response.endpoint}

    def _identity(self) -> dict[str, Any]:
        """What must be the same for rows to belong to one run."""
        settings = self.settings
        return {
            "model": self.recognizer.model.name,
            "parity_id": self.recognizer.model.parity_id,
            "dataset_sha256": self.dataset,
            "load list": [load.name for load in settings.loads],
            "requests": settings.requests,
            "duration": settings.seconds,
            "order": settings.order,
            "seed": settings.seed,
            "processes": settings.processes,
            "shared_memory": settings.shared_memory,
        }

    @asynccontextmanager
    async def _senders(self) -> AsyncIterator[Senders]:
        settings, samples = self.settings, [recording.samples for recording in self.recordings]
        if settings.processes == 1 and not settings.shared_memory:
            yield LocalSenders(self.recognizer, samples, retries=settings.retries)
            return
        with SharedAudio.holding(samples) as audio:
            # Two of these commands may run beside each other.
            region = f"bench_{uuid.uuid4()}" if settings.shared_memory else None
            if region:
                await self.servers.share(region=region, key=audio.block.key, byte_size=audio.block.byte_size)
            try:
                if settings.processes == 1 and region:
                    yield LocalSenders(self.recognizer, audio.block.regions(region), retries=settings.retries)
                else:
                    with ProcessSenders(self._assignment(audio.block, region), settings.processes) as senders:
                        yield senders
            finally:
                if region:
                    await self.servers.unshare(region)

    def _assignment(self, block: Block, region: str | None) -> Assignment:
        settings = self.settings
        return Assignment(
            model=self.recognizer.model.name,
            url=settings.url,
            timeout=settings.timeout,
            tls=settings.tls,
            block=block,
            region=region,
            retries=settings.retries,
        )

    async def _put(self, load: Load, senders: Senders, run_log: RunLog | None) -> bool:
        """Put one load on the server; returns whether the server is still there."""
        run = next((run for run in self.runs if run.load == load), None)
        if run is None:
            run = LoadRun(load)
            self.runs.append(run)
        plan = self._plan(run)
        if plan.remaining == 0 or (plan.seconds is not None and plan.seconds <= 0):
            return True
        advance = self.reporter.begin_task(load.name, total=plan.remaining)

        def note(response: Response) -> None:
            advance()
            if run_log:
                run_log.answer(load, response)
            if response.error is not None:
                self.reporter.problem(failure_line(self.recordings, response))

        sessions = len(run.sessions)
        try:
            await measure(self.recognizer, senders, plan, run, on_response=note, monitors=self._monitors())
        finally:
            if run_log and len(run.sessions) > sessions:
                run_log.session(load, run.sessions[-1])
        if run.sessions[-1].server_gone:
            self._note_unsent(run)
        return not run.sessions[-1].server_gone

    def _monitors(self) -> list[Monitor]:
        """Of the servers that are there now, unless the settings name others."""
        urls = self.settings.metrics_urls or [default_metrics_url(name) for name in self.servers.names]
        for url in urls:
            self.monitors.setdefault(url, Monitor(url))
        return [self.monitors[url] for url in dict.fromkeys(urls)]

    def _plan(self, run: LoadRun) -> Plan:
        settings = self.settings
        seconds = settings.seconds
        if seconds and isinstance(run.load, ClosedLoop):
            seconds -= run.wall_seconds
        everything = None if settings.seconds else len(self.recordings)
        return Plan(
            load=run.load,
            recordings=ordered([recording.duration for recording in self.recordings], settings.order),
            shuffled=settings.order == "shuffled",
            seed=settings.seed,
            requests=settings.requests or everything,
            seconds=seconds,
            answered=frozenset(response.number for response in run.responses),
        )

    def _note_unsent(self, run: LoadRun) -> None:
        unsent = self._plan(run).remaining
        count = f"{unsent} requests were" if unsent else "the rest was"
        self.note(f"the server at {self.settings.url} went away; {count} not sent under {run.load.name}")

    def setting(self) -> dict[str, Any]:
        """What was measured, with what, on what: JSON values."""
        served = self.recognizer.model
        # Servers may be elsewhere after a restart; what they answered there stays theirs.
        url = ",".join(sorted(self._answering())) if self._servers_changed else self.settings.url
        return {
            "model": served.name,
            "parity_id": served.parity_id,
            "random_weights": served.random_weights,
            "precision": served.precision,
            "url": url,
            "tls": self.settings.tls is not None,
            "server": self.server,
            "machine": machine(),
            "versions": versions(),
            "dataset": {
                "sha256": self.dataset,
                "utterances": len(self.recordings),
                "audio_seconds": sum(recording.duration for recording in self.recordings),
            },
            "metrics_problem": "; ".join(filter(None, (monitor.problem for monitor in self.monitors.values()))) or None,
        }
