"""One run of the benchmark command: audio in, loads on the server one after the other, everything kept that came."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress

from nemo_triton.audio import Samples, load_audio
from nemo_triton.concurrency import map_in_order
from nemo_triton.errors import AudioError
from nemo_triton.loadtest.figures import failure_line
from nemo_triton.loadtest.measure import LoadRun, measure, warm_up
from nemo_triton.loadtest.provenance import machine, versions
from nemo_triton.loadtest.recording import Recording, Response, digest
from nemo_triton.loadtest.run_log import Journal
from nemo_triton.loadtest.schedule import ClosedLoop, Load, Order, Plan, ordered
from nemo_triton.loadtest.sender import LocalSenders, Senders
from nemo_triton.loadtest.sender_processes import Assignment, WorkerSenders
from nemo_triton.loadtest.server_metrics import Monitor, default_metrics_url
from nemo_triton.loadtest.shared_audio import SharedAudio
from nemo_triton.manifest import Utterance
from nemo_triton.protocol import SharedSamples
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.terminal import options as cli
from nemo_triton.tls import Tls

_FILES_READ_AT_ONCE = 4


@dataclass(frozen=True)
class Options:
    """What the command line asks for. `seconds` and `requests` bound each load; see Plan."""

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

    runs: one for each load that was begun
    problems: a line for each utterance that no request was sent for
    notes: a line for each thing that kept the run from its end
    complete: whether every load was put on the server to its end
    """

    options: Options
    recordings: list[Recording] = field(default_factory=list)
    runs: list[LoadRun] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = False
    server: str = ""
    dataset: str = ""
    _asked_elsewhere: bool = field(default=False, init=False)
    """Whether answers of earlier sessions came from servers that this one does not ask."""

    def __post_init__(self) -> None:
        options = self.options
        self.recognizer = AsyncRecognizer(options.model, options.url, options.timeout, options.tls)
        self.monitors: dict[str, Monitor] = {}

    def fail(self, line: str) -> None:
        """Note and print an utterance that has no result."""
        self.problems.append(line)
        cli.print_error(line)

    def note(self, line: str) -> None:
        """Note and print what is about the run and no single request."""
        self.notes.append(line)
        cli.print_error(line)

    @property
    def answered(self) -> int:
        """Requests with a text."""
        return sum(response.error is None for run in self.runs for response in run.responses)

    async def measure(self, utterances: Sequence[Utterance]) -> None:
        """Connect, read all audio, warm up, then put each load on the server."""
        async with self.recognizer:
            self.server = await self.recognizer.server_version()
            with cli.progress_bar() as progress:
                await self._read_all(utterances, progress)
                if not self.recordings:
                    return
                with ExitStack() as stack:
                    journal = self._open_journal()
                    if journal:
                        stack.callback(journal.close)
                    async with self._senders() as senders:
                        await warm_up(senders, self.options.loads[0], len(self.recordings), self.options.warmup)
                        for place, load in enumerate(self.options.loads):
                            if not await self._put(load, senders, journal, progress):
                                for later in self.options.loads[place + 1 :]:
                                    self.note(f"{later.name}: not begun, since the server went away")
                                return
                        self.complete = True

    async def _read_all(self, utterances: Sequence[Utterance], progress: Progress) -> None:
        reading = progress.add_task("reading audio", total=len(utterances))
        async with aclosing(map_in_order(self._read, utterances, _FILES_READ_AT_ONCE)) as results:
            async for recording in results:
                progress.advance(reading)
                if recording is not None:
                    self.recordings.append(recording)
        self.dataset = digest(self.recordings)

    async def _read(self, utterance: Utterance) -> Recording | None:
        try:
            return Recording(utterance, await asyncio.to_thread(load_audio, utterance.audio))
        except AudioError as error:
            self.fail(str(error))
            return None

    def _open_journal(self) -> Journal | None:
        options = self.options
        if options.rows is None:
            return None
        if not options.resume:
            return Journal.begin(options.rows, self._identity(), self.recordings)
        journal, self.runs = Journal.resume(options.rows, self._identity(), self.recordings, options.loads)
        self._asked_elsewhere = not self._answered_by() <= {*self.recognizer.targets}
        return journal

    def _answered_by(self) -> set[str]:
        return {response.target for run in self.runs for response in run.responses if response.target}

    def _identity(self) -> dict[str, Any]:
        """What must be the same for rows to belong to one run."""
        options = self.options
        return {
            "model": self.recognizer.model.name,
            "parity_id": self.recognizer.model.parity_id,
            "dataset_sha256": self.dataset,
            "load list": [load.name for load in options.loads],
            "requests": options.requests,
            "duration": options.seconds,
            "order": options.order,
            "seed": options.seed,
            "processes": options.processes,
            "shared_memory": options.shared_memory,
        }

    @asynccontextmanager
    async def _senders(self) -> AsyncIterator[Senders]:
        options, samples = self.options, [recording.samples for recording in self.recordings]
        if options.processes == 1 and not options.shared_memory:
            yield LocalSenders(self.recognizer, samples, options.retries)
            return
        with SharedAudio.holding(samples) as audio:
            # Two of these commands may run beside each other.
            region = f"bench_{uuid.uuid4()}" if options.shared_memory else None
            if region:
                await self.recognizer.share(region, audio.block.key, audio.block.byte_size)
            try:
                if options.processes == 1:
                    assert region is not None
                    found: list[Samples | SharedSamples] = audio.block.regions(region)
                    yield LocalSenders(self.recognizer, found, options.retries)
                else:
                    assignment = Assignment(
                        self.recognizer.model.name,
                        options.url,
                        options.timeout,
                        options.tls,
                        audio.block,
                        region,
                        options.retries,
                    )
                    with WorkerSenders(assignment, options.processes) as senders:
                        yield senders
            finally:
                if region:
                    await self.recognizer.unshare(region)

    async def _put(self, load: Load, senders: Senders, journal: Journal | None, progress: Progress) -> bool:
        """Put one load on the server; returns whether the server is still there."""
        run = next((run for run in self.runs if run.load == load), None)
        if run is None:
            run = LoadRun(load)
            self.runs.append(run)
        plan = self._plan(run)
        if plan.remaining == 0 or (plan.seconds is not None and plan.seconds <= 0):
            return True
        sending = progress.add_task(load.name, total=plan.remaining)

        def note(response: Response) -> None:
            progress.advance(sending)
            if journal:
                journal.answer(load, response)
            if response.error is not None:
                cli.print_error(failure_line(self.recordings, response))

        sessions = len(run.sessions)
        try:
            await measure(self.recognizer, senders, plan, run, note, self._monitors())
        finally:
            if journal and len(run.sessions) > sessions:
                journal.session(load, run.sessions[-1])
        if run.sessions[-1].server_gone:
            self._note_unsent(run)
        return not run.sessions[-1].server_gone

    def _monitors(self) -> list[Monitor]:
        """Of the servers that are there now, unless the command line names others."""
        urls = self.options.metrics_urls or [default_metrics_url(target) for target in self.recognizer.targets]
        for url in urls:
            self.monitors.setdefault(url, Monitor(url))
        return [self.monitors[url] for url in dict.fromkeys(urls)]

    def _plan(self, run: LoadRun) -> Plan:
        options = self.options
        seconds = options.seconds
        if seconds and isinstance(run.load, ClosedLoop):
            seconds -= run.wall_seconds
        everything = None if options.seconds else len(self.recordings)
        return Plan(
            load=run.load,
            recordings=ordered([recording.duration for recording in self.recordings], options.order),
            shuffled=options.order == "shuffled",
            seed=options.seed,
            requests=options.requests or everything,
            seconds=seconds,
            answered=frozenset(response.number for response in run.responses),
        )

    def _note_unsent(self, run: LoadRun) -> None:
        unsent = self._plan(run).remaining
        count = f"{unsent} requests were" if unsent else "the rest was"
        self.note(f"the server at {self.options.url} went away; {count} not sent under {run.load.name}")

    def setting(self) -> dict[str, Any]:
        """What was measured, with what, on what: JSON values."""
        served = self.recognizer.model
        # Servers may be elsewhere after a restart; what they answered there stays theirs.
        url = ",".join(sorted(self._answered_by())) if self._asked_elsewhere else self.options.url
        return {
            "model": served.name,
            "parity_id": served.parity_id,
            "random_weights": served.random_weights,
            "precision": served.precision,
            "url": url,
            "tls": self.options.tls is not None,
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
