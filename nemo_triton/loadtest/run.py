"""One run of a load test: read the audio, run one load after the other, keep all results."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nemo_triton.contract import Description
from nemo_triton.loadtest.figures import failure_line
from nemo_triton.loadtest.measure import LoadRun, measure, warm_up
from nemo_triton.loadtest.metrics_discovery import MetricsFinder, missing_metrics
from nemo_triton.loadtest.provenance import machine, versions
from nemo_triton.loadtest.reading import expected_bytes, read_into_spool
from nemo_triton.loadtest.recording import Response, SpooledRecording
from nemo_triton.loadtest.repeated import RepeatedErrors
from nemo_triton.loadtest.run_log import RunLog
from nemo_triton.loadtest.schedule import ClosedLoop, Load, Order, Plan, ordered
from nemo_triton.loadtest.sender import Audio, LocalSenders, Senders
from nemo_triton.loadtest.sender_processes import Assignment, ProcessSenders
from nemo_triton.loadtest.server_metrics import Monitor
from nemo_triton.loadtest.servers import Servers
from nemo_triton.loadtest.shared_audio import SharedAudio, in_region
from nemo_triton.loadtest.slo import Objective, Search, Trial, judge
from nemo_triton.loadtest.spool import Spool
from nemo_triton.manifest import Utterance
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.tls import Tls

_WARM_UP_LOAD = ClosedLoop(16)
"""Warm-up before a search, whose first load has only one request at a time."""


class _ServerGoneError(Exception):
    """The last server went down during a search."""


Advance = Callable[[], None]
"""Advances a task by one step."""


class Reporter(Protocol):
    """An interface to show progress and problems of a load test."""

    def problem(self, line: str) -> None:
        """Show one line about an utterance without a result, or about the run."""

    def warning(self, line: str) -> None:
        """Show one line about something that the run can't measure."""

    def begin_task(self, description: str, total: int | None) -> Advance:
        """Show the start of a task of `total` steps; None is an unknown number."""

    def decoding(self) -> AbstractContextManager[None]:
        """Return a context in which files are decoded, because decoders print notes of their own."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a load test.

    Attributes:
        model: The recognizer's name; None takes the only one on the server.
        url: Addresses of the servers as host:port, separated by commas.
        timeout: Deadline of one request in seconds.
        tls: TLS settings; None connects without TLS.
        loads: Loads to run one after the other; empty with an objective.
        requests: Requests under each load; see Plan.
        seconds: Seconds of sending under each load; see Plan.
        order: Order of the utterances.
        seed: Seed of orders and arrival times.
        processes: Number of sending processes.
        shared_memory: Whether the server reads the audio from this machine's shared memory.
        retries: Number of retries of a request if the server is down.
        warmup: Number of requests before the first load.
        metrics_urls: URLs of Triton's metrics; empty looks for them.
        rows: Path of the run log; None writes none.
        resume: Whether to resume the run that wrote `rows`.
        objective: Latency objective whose highest rate is searched; None runs `loads`.
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
    objective: Objective | None = None


@dataclass
class BenchRun:
    """A load test and its results so far, so that an interrupt loses none of them.

    Attributes:
        settings: Settings of the load test.
        reporter: Shows progress and problems.
        recordings: The recordings to send.
        runs: Results of each load that was started.
        problems: One line for each utterance that was not sent.
        notes: One line for each reason why the run is incomplete or has no result.
        complete: Whether every load ran to its end.
        server: Name and version of the server.
        dataset: SHA-256 of the recordings and their texts.
        description: Origin and size of the model, from its configuration.
        search: The search for a rate; None without an objective.
    """

    settings: RunSettings
    reporter: Reporter
    recordings: list[SpooledRecording] = field(default_factory=list)
    runs: list[LoadRun] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = False
    server: str = ""
    dataset: str = ""
    description: Description = field(default_factory=Description)
    search: Search | None = field(default=None, init=False)
    _servers_changed: bool = field(default=False, init=False)
    """Whether responses of earlier sessions came from servers that this session doesn't use."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.recognizer = AsyncRecognizer(settings.model, settings.url, settings.timeout, settings.tls)
        self.servers = Servers(self.recognizer)
        self._monitors = {url: Monitor(url) for url in settings.metrics_urls}
        self._finder = MetricsFinder(self.servers)
        self._metrics_problems: list[str] = []
        if settings.objective:
            self.search = Search(settings.objective)

    def fail(self, line: str) -> None:
        """Keep and show a problem of one utterance."""
        self.problems.append(line)
        self.reporter.problem(line)

    def note(self, line: str) -> None:
        """Keep and show a problem of the whole run."""
        self.notes.append(line)
        self.reporter.problem(line)

    @property
    def answered(self) -> int:
        """Number of requests with a text."""
        return sum(response.error is None for run in self.runs for response in run.responses)

    async def measure(self, utterances: Sequence[Utterance]) -> None:
        """Connect, read all audio, warm up and run each load."""
        async with self.recognizer:
            self.server = await self.servers.version()
            self.description = await self.servers.description()
            with ExitStack() as stack:
                spool = stack.enter_context(Spool())
                await self._read_all(utterances, spool)
                if not self.recordings:
                    return
                run_log = self._open_run_log()
                if run_log:
                    stack.callback(run_log.close)
                async with self._senders(spool) as senders:
                    loads = self.settings.loads
                    first, count = loads[0] if loads else _WARM_UP_LOAD, len(self.recordings)
                    await warm_up(senders, first, recordings=count, requests=self.settings.warmup)
                    await (self._search if self.search else self._run_loads)(senders, run_log)

    async def _run_loads(self, senders: Senders, run_log: RunLog | None) -> None:
        loads = self.settings.loads
        for index, load in enumerate(loads):
            if not await self._run_load(load, senders, run_log):
                for later in loads[index + 1 :]:
                    self.note(f"{later.name}: not started, because the server went down")
                return
        self.complete = True

    async def _search(self, senders: Senders, run_log: RunLog | None) -> None:
        search = self.search
        assert search is not None

        async def run_trial(load: Load) -> Trial:
            if not await self._run_load(load, senders, run_log):
                raise _ServerGoneError
            return judge(self.runs[-1], search.objective)

        try:
            await search.run(run_trial)
        except _ServerGoneError:
            return
        self.complete = True
        if search.failure:
            self.note(search.failure)

    async def _read_all(self, utterances: Sequence[Utterance], spool: Spool) -> None:
        with self.reporter.decoding():
            # In a thread, because it opens each file.
            expected = await asyncio.to_thread(expected_bytes, utterances)
        lack = spool.lack_of_space(expected)
        if lack:
            # Only a warning, because a manifest may have wrong durations.
            self.reporter.warning(lack)
        advance = self.reporter.begin_task("reading audio", total=len(utterances))
        with self.reporter.decoding():
            self.recordings, self.dataset = await read_into_spool(
                utterances, spool, on_problem=self.fail, advance=advance
            )

    def _open_run_log(self) -> RunLog | None:
        settings = self.settings
        if settings.rows is None:
            return None
        if not settings.resume:
            return RunLog.begin(settings.rows, self._identity(), self.recordings)
        run_log, self.runs = RunLog.resume(settings.rows, self._identity(), self.recordings, settings.loads)
        self._servers_changed = not self._responding() <= {*self.servers.names}
        return run_log

    def _responding(self) -> set[str]:
        """host:port of all servers that responded, those of earlier sessions included."""
        return {response.endpoint for run in self.runs for response in run.responses if response.endpoint}

    def _identity(self) -> dict[str, Any]:
        """Settings that must be the same for a run to be resumed."""
        settings = self.settings
        return {
            "model": self.recognizer.model.name,
            "parity_id": self.recognizer.model.parity_id,
            "dataset_sha256": self.dataset,
            "load list": [settings.objective.name] if settings.objective else [load.name for load in settings.loads],
            "requests": settings.requests,
            "duration": settings.seconds,
            "order": settings.order,
            "seed": settings.seed,
            "processes": settings.processes,
            "shared_memory": settings.shared_memory,
        }

    @asynccontextmanager
    async def _senders(self, spool: Spool) -> AsyncIterator[Senders]:
        audio = [recording.audio for recording in self.recordings]
        if not self.settings.shared_memory:
            with self._senders_of(audio) as senders:
                yield senders
            return
        with SharedAudio(spool) as shared:
            # Two runs of bench.py may share a server.
            region = f"bench_{uuid.uuid4()}"
            await self.servers.share(region=region, key=shared.key, byte_size=shared.byte_size)
            try:
                with self._senders_of(in_region(region, audio)) as senders:
                    yield senders
            finally:
                await self.servers.unshare(region)

    @contextmanager
    def _senders_of(self, audio: Sequence[Audio]) -> Iterator[Senders]:
        settings = self.settings
        if settings.processes == 1:
            yield LocalSenders(self.recognizer, audio, retries=settings.retries)
            return
        assignment = Assignment(
            model=self.recognizer.model.name,
            url=settings.url,
            timeout=settings.timeout,
            tls=settings.tls,
            audio=audio,
            retries=settings.retries,
        )
        with ProcessSenders(assignment, settings.processes) as senders:
            yield senders

    async def _run_load(self, load: Load, senders: Senders, run_log: RunLog | None) -> bool:
        """Run one load; returns False if the last server went down."""
        run = next((run for run in self.runs if run.load == load), None)
        if run is None:
            run = LoadRun(load)
            self.runs.append(run)
        plan = self._plan(run)
        if plan.remaining == 0 or (plan.seconds is not None and plan.seconds <= 0):
            return True
        advance = self.reporter.begin_task(load.name, total=plan.remaining)
        errors = RepeatedErrors(self.reporter.problem)

        def note(response: Response) -> None:
            advance()
            if run_log:
                run_log.answer(load, response)
            if response.error is not None and not response.refused:
                errors.add(failure_line(self.recordings, response), response.error)

        sessions = len(run.sessions)
        monitors = await self._find_monitors()
        try:
            await measure(self.recognizer, senders, plan, run, on_response=note, monitors=monitors)
        finally:
            errors.end()
            self._warn_of_missing_metrics(self._finder.drop_foreign())
            if run_log and len(run.sessions) > sessions:
                run_log.session(load, run.sessions[-1])
        if run.sessions[-1].server_gone:
            self._note_unsent(run)
        return not run.sessions[-1].server_gone

    async def _find_monitors(self) -> list[Monitor]:
        """The monitors of the URLs in the settings, or else of the current servers."""
        if self._monitors:
            return [*self._monitors.values()]
        self._warn_of_missing_metrics(await self._finder.find())
        return [*self._finder.current()]

    def _warn_of_missing_metrics(self, servers: Sequence[str]) -> None:
        if servers:
            line = missing_metrics(servers)
            self._metrics_problems.append(line)
            self.reporter.warning(line)

    def _plan(self, run: LoadRun) -> Plan:
        settings = self.settings
        seconds = settings.seconds
        if settings.objective and not seconds and not settings.requests:
            seconds = settings.objective.trial_seconds(run.load)
        one_pass = None if seconds else len(self.recordings)
        if seconds and isinstance(run.load, ClosedLoop):
            seconds -= run.wall_seconds
        return Plan(
            load=run.load,
            recordings=ordered([recording.duration for recording in self.recordings], settings.order),
            shuffled=settings.order == "shuffled",
            seed=settings.seed,
            requests=settings.requests or one_pass,
            seconds=seconds,
            answered=frozenset(response.number for response in run.responses),
        )

    def _note_unsent(self, run: LoadRun) -> None:
        unsent = self._plan(run).remaining
        count = f"{unsent} requests were" if unsent else "the remaining requests were"
        self.note(f"the server at {self.settings.url} went down; {count} not sent ({run.load.name})")

    def setting(self) -> dict[str, Any]:
        """Model, server, machine and data set of the run, as JSON values."""
        served = self.recognizer.model
        problems = [*self._metrics_problems, *filter(None, (monitor.problem for monitor in self._all_monitors()))]
        # A resumed run may use other servers; the earlier responses still name theirs.
        url = ",".join(sorted(self._responding())) if self._servers_changed else self.settings.url
        return {
            "model": served.name,
            "parity_id": served.parity_id,
            "random_weights": served.random_weights,
            "precision": served.precision,
            "nemo_class": self.description.nemo_class or None,
            "parameters": self.description.parameters or None,
            "checkpoint_bytes": self.description.checkpoint_bytes or None,
            "target": self.description.target or None,
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
            "metrics_problem": "; ".join(problems) or None,
        }

    def _all_monitors(self) -> list[Monitor]:
        return [*self._monitors.values(), *self._finder.current()]
