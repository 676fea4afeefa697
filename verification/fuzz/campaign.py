"""A run of mutated requests to one of two servers, while valid requests go to both."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
from tritonclient.grpc import service_pb2_grpc

from benchmark.core.model_control import only
from nemo_triton.audio import load_audio
from nemo_triton.manifest import read_manifest
from server.access import HTTP_INFERENCE
from server.process import Server, running_server
from verification.attack.footprint import footprint
from verification.fuzz.cases import Case, FuzzRequest, Protocol
from verification.fuzz.good_traffic import GoodTraffic
from verification.fuzz.sending import ANSWERED, DISCONNECTED, HUNG, Sender
from verification.fuzz.targets import Target, read_targets

ENDED = "server ended"
STAGE_MEMORY = 6 * 2**30
"""Bytes that a stage of the fuzzed server may allocate, so that no request takes the machine's memory."""
_SETTLE_SECONDS = 0.7
"""Time in which the supervisor ends a server after the death of a stage."""
_GOOD_LOOPS = 2
_SUSPECTS = 8
"""Requests per concurrent one that may have ended a server."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a run.

    Attributes:
        repository: The model repository.
        models: Recognizers to serve.
        manifest: Recordings of the valid requests.
        seed: Seed of the mutated requests.
        requests: Number of mutated requests; None for no limit.
        seconds: Seconds after which the run ends; None for no limit.
        concurrency: Number of concurrent mutated requests.
        patience: Seconds until a request without a response counts as hung.
        open_http: Whether the fuzzed server serves inference by HTTP. All mutated requests then go by HTTP.
        closed_http_fraction: Fraction of the requests by HTTP to a server that refuses it.
        known_faults: Whether to send requests that are known to end the server.
        findings: Folder for the requests that end the server or hang.
    """

    repository: Path
    models: Sequence[str]
    manifest: Path
    seed: int = 0
    requests: int | None = None
    seconds: float | None = None
    concurrency: int = 6
    patience: float = 30.0
    open_http: bool = False
    closed_http_fraction: float = 0.1
    known_faults: bool = False
    findings: Path


@dataclass(frozen=True)
class Finding:
    """A request that ended the server or hung.

    Attributes:
        request: The request, without the mutations that it doesn't need.
        outcome: "server ended" with the line of the supervisor, or "hung".
        file: The file with the request.
    """

    request: FuzzRequest
    outcome: str
    file: Path


@dataclass
class Results:
    """Results of a run.

    Attributes:
        counts: Number of requests by protocol, model and result.
        mutations: Number of mutations applied, by name.
        skipped: Number of requests left out because of a known fault, by fault.
        findings: Requests that end the server or hang.
        unexplained: Ends of the server that no single request repeats, with the supervisor's line.
        good: Number of valid requests with the expected text.
        retried: Number of these that were sent more than once.
        wrong: One line per valid request that failed or has another text.
        memory: Bytes of the fuzzed server at the start and at the end of its last start.
        seconds: Duration.
    """

    counts: Counter[tuple[Protocol, str, str]] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    good: int = 0
    retried: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: tuple[int, int] = (0, 0)
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """Number of mutated requests."""
        return sum(self.counts.values())


def fuzz(settings: Settings, advance: Callable[[], None] = lambda: None) -> Results:
    """Run the fuzzer.

    Args:
        settings: The settings.
        advance: Called after each mutated request.
    """
    return asyncio.run(_Campaign(settings, advance).run())


def replay(settings: Settings, request: FuzzRequest) -> str:
    """Send one request to a fresh server, and say what happened."""

    async def send() -> str:
        async with fuzzed_server(settings) as server:
            return await outcome_of(server, request, settings.patience)

    return asyncio.run(send())


@asynccontextmanager
async def fuzzed_server(settings: Settings, address: str | None = None) -> AsyncIterator[Server]:
    """Serve with the launcher's defaults, except for HTTP if that is fuzzed; each stage limited in memory."""
    async with serving(settings, address, [HTTP_INFERENCE] if settings.open_http else []) as server:
        for stage in psutil.Process(server.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                stage.rlimit(psutil.RLIMIT_DATA, (STAGE_MEMORY, STAGE_MEMORY))
        yield server


@asynccontextmanager
async def serving(settings: Settings, address: str | None = None, opened: Sequence[str] = ()) -> AsyncIterator[Server]:
    """Serve in a thread, so that requests to other servers go on."""
    manager = running_server(
        settings.repository, only(settings.repository, *settings.models), grpc=address, opened=opened
    )
    server = await asyncio.to_thread(manager.__enter__)
    try:
        yield server
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def outcome_of(server: Server, request: FuzzRequest, patience: float) -> str:
    """Send one request and wait until a death of the server would have shown."""
    async with Sender(server, patience) as sender:
        result = await sender.send(request)
    await asyncio.sleep(_SETTLE_SECONDS)
    if result == DISCONNECTED:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(server.process.wait), 5)
    return result if server.process.poll() is None else ended(server)


def ended(server: Server) -> str:
    """Describe the end of a server in the words of its supervisor."""
    lines = server.log.read_text(errors="replace").splitlines()
    reason = next((line for line in reversed(lines) if line.startswith("error: ")), "no line")
    return f"{ENDED}: {reason.removeprefix('error: ')}"


class _Campaign:
    def __init__(self, settings: Settings, advance: Callable[[], None]) -> None:
        self.settings = settings
        self.advance = advance
        self.results = Results()
        self.number = 0
        self.recent: deque[Case] = deque(maxlen=_SUSPECTS * settings.concurrency)
        """Cases in the order of sending. If the server ends, those in flight follow once more."""
        self.targets: list[Target] = []
        self.start = time.monotonic()

    async def run(self) -> Results:
        recordings = [load_audio(utterance.audio) for utterance in read_manifest(self.settings.manifest).utterances]
        async with AsyncExitStack() as stack:
            second = await stack.enter_async_context(serving(self.settings))
            first = await self._start(stack)
            urls = [first.grpc, second.grpc]
            with grpc.insecure_channel(second.grpc) as channel:
                self.targets = read_targets(service_pb2_grpc.GRPCInferenceServiceStub(channel))
            async with GoodTraffic(self.settings.models, urls, recordings, _GOOD_LOOPS) as good:
                self.start = time.monotonic()
                while not self.done:
                    before = footprint(first.process.pid).memory
                    await self._send_until_end(first)
                    if first.process.poll() is None:
                        self.results.memory = (before, footprint(first.process.pid).memory)
                    else:
                        await self._explain(ended(first), first.grpc)
                        if not self.done:
                            first = await self._start(stack, first.grpc)
            self.results.good, self.results.retried = good.answered, good.retried
            self.results.wrong = good.wrong
        self.results.seconds = time.monotonic() - self.start
        return self.results

    @property
    def done(self) -> bool:
        limit, seconds = self.settings.requests, self.settings.seconds
        return (limit is not None and self.results.sent >= limit) or (
            seconds is not None and time.monotonic() - self.start > seconds
        )

    async def _start(self, stack: AsyncExitStack, address: str | None = None) -> Server:
        return await stack.enter_async_context(fuzzed_server(self.settings, address))

    async def _send_until_end(self, server: Server) -> None:
        """Send requests until the run is done or the server ends."""
        async with Sender(server, self.settings.patience) as sender:
            await asyncio.gather(*(self._loop(sender) for _ in range(self.settings.concurrency)))
        await asyncio.sleep(_SETTLE_SECONDS)

    async def _loop(self, sender: Sender) -> None:
        while not self.done and sender.server.process.poll() is None:
            case = self._next()
            request = case.build(self.targets)
            if request.fault and not self.settings.known_faults:
                self.results.skipped[request.fault] += 1
                continue
            self.recent.append(case)
            result = await sender.send(request)
            if result == DISCONNECTED and await self._ends(sender.server):
                self.recent.append(case)
                return
            self.results.counts[request.protocol, request.model, result] += 1
            self.results.mutations.update(request.mutations)
            self.advance()
            if result == HUNG:
                self._record(case, HUNG)
            closed_http = request.protocol == "HTTP" and not self.settings.open_http
            if closed_http and result == ANSWERED and request.path.endswith(("infer", "generate", "generate_stream")):
                self._record(case, "answered by HTTP, which is closed")

    def _next(self) -> Case:
        self.number += 1
        by_http = self.settings.open_http or self.number * self.settings.closed_http_fraction % 1 < (
            self.settings.closed_http_fraction
        )
        return Case("HTTP" if by_http else "gRPC", self.settings.seed, self.number)

    async def _ends(self, server: Server) -> bool:
        """Whether a server that closed a connection ends."""
        for _ in range(20):
            if server.process.poll() is not None:
                return True
            await asyncio.sleep(_SETTLE_SECONDS / 10)
        return False

    async def _explain(self, outcome: str, address: str) -> None:
        """Find the request that ended the server, by sending the last ones again one at a time."""
        suspects = list(dict.fromkeys(reversed(self.recent)))[::-1]
        self.recent.clear()
        while suspects:
            async with fuzzed_server(self.settings, address) as server:
                while suspects:
                    case = suspects.pop()
                    result = await outcome_of(server, case.build(self.targets), self.settings.patience)
                    if result.startswith(ENDED):
                        break
                else:
                    break
            self._record(await self._shrink(case, address), result)
            return
        self.results.unexplained.append(outcome)

    async def _shrink(self, case: Case, address: str) -> Case:
        """Leave out mutations without which the request still ends the server."""
        for position in case.mutations:
            if len(case.mutations) > 1:
                smaller = case.without(position)
                async with fuzzed_server(self.settings, address) as server:
                    result = await outcome_of(server, smaller.build(self.targets), self.settings.patience)
                if result.startswith(ENDED):
                    case = smaller
        return case

    def _record(self, case: Case, outcome: str) -> None:
        request = case.build(self.targets)
        self.settings.findings.mkdir(parents=True, exist_ok=True)
        file = self.settings.findings / f"seed_{case.seed}_request_{case.number}.json"
        request.write(file, outcome)
        self.results.findings.append(Finding(request, outcome, file))
        if outcome.startswith(ENDED):
            self.results.counts[request.protocol, request.model, ENDED] += 1
