"""Full load of mixed audio on several servers, while faults happen to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np
from rich.progress import Progress

from benchmark.core.model_control import only
from nemo_triton.audio import Samples
from nemo_triton.errors import RecognizerError
from nemo_triton.recognizer import AsyncRecognizer
from verification.attack.footprint import footprint
from verification.faults.injection import RECOVERY_SECONDS, Fault, Injected, draw_faults, inject, until
from verification.faults.proxy import Proxy
from verification.faults.restarting import RestartingServer
from verification.faults.soak_judge import STEADY, Memory, Sent, Soak

REQUEST_SECONDS = 120.0
"""Deadline of a request, retries included."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a soak test.

    Attributes:
        repository: The model repository.
        folder: Existing folder for the servers' logs.
        models: Recognizers to serve.
        clips: Audio to send, each int16 or float32 [T] at 16 kHz.
        servers: Number of servers.
        concurrency: Concurrent requests per recognizer.
        seconds: Duration of the load.
        seed: Seed of the load and the faults.
        pause_seconds: Shortest and longest time between the recovery from a fault and the next fault.
        stop_seconds: Shortest and longest time for which a server is stopped.
        memory_seconds: Time between two measurements of memory.
    """

    repository: Path
    folder: Path
    models: Sequence[str]
    clips: Sequence[Samples]
    servers: int = 3
    concurrency: int = 16
    seconds: float
    seed: int = 0
    pause_seconds: tuple[float, float] = (10.0, 30.0)
    stop_seconds: tuple[float, float] = (5.0, 20.0)
    memory_seconds: float = 5.0


def soak(settings: Settings, progress: Progress) -> Soak:
    """Start the servers and run a soak test.

    Raises:
        ServerError: A server did not start.
        RecognizerError: A recognizer can't be used, or refuses a clip.
    """
    flags = only(settings.repository, *settings.models)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(RestartingServer(settings.repository, flags, settings.folder, f"server_{index}"))
            for index in range(settings.servers)
        ]
        return soak_servers(settings, servers, progress)


def soak_servers(settings: Settings, servers: Sequence[RestartingServer], progress: Progress) -> Soak:
    """Run a soak test on running servers.

    Raises:
        RecognizerError: A recognizer can't be used, or refuses a clip.
    """
    return asyncio.run(_Run(settings, servers, progress).run())


@dataclass
class _Run:
    settings: Settings
    servers: Sequence[RestartingServer]
    progress: Progress
    soak: Soak = field(default_factory=Soak)
    proxies: list[Proxy] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    injecting: bool = True

    async def run(self) -> Soak:
        for model in self.settings.models:
            self.texts[model] = await self.transcribe_unbatched(model)
        async with AsyncExitStack() as stack:
            self.proxies += [await stack.enter_async_context(Proxy(server.url)) for server in self.servers]
            urls = [proxy.url for proxy in self.proxies]
            recognizers = {
                model: await stack.enter_async_context(AsyncRecognizer(model, urls, timeout=REQUEST_SECONDS))
                for model in self.settings.models
            }
            self.soak.began = time.monotonic()
            self.soak.ended = self.soak.began + self.settings.seconds
            background = [asyncio.ensure_future(task) for task in (self.inject_faults(), self.measure_memory())]
            try:
                await asyncio.gather(
                    *(
                        self.send(model, recognizer, clips)
                        for model, recognizer in recognizers.items()
                        for clips in [self.draw_clips()]
                        for _ in range(self.settings.concurrency)
                    )
                )
                await asyncio.gather(*background)
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
        return self.soak

    async def transcribe_unbatched(self, model: str) -> list[str]:
        """The texts of all clips, sent one at a time to the steady server."""
        async with AsyncRecognizer(model, self.servers[STEADY].url) as recognizer:
            clips = self.progress.track(self.settings.clips, description=f"{model}, unbatched")
            return [(await recognizer.transcribe(samples)).text for samples in clips]

    def draw_clips(self) -> Iterator[int]:
        """Yield indices of clips: all in random order, then all again, so that all quarters have the same lengths."""
        rng = np.random.default_rng(self.settings.seed)
        while True:
            yield from map(int, rng.permutation(len(self.settings.clips)))

    async def send(self, model: str, recognizer: AsyncRecognizer, clips: Iterator[int]) -> None:
        """Send one request after the other until the end, or until the last fault is over."""
        while self.injecting or time.monotonic() < self.soak.ended:
            clip = next(clips)
            sent = time.monotonic()
            try:
                transcript = await recognizer.transcribe(self.settings.clips[clip])
            except RecognizerError as error:
                attempts = getattr(error, "attempts", 1)
                result = Sent(
                    model=model,
                    clip=clip,
                    sent=sent,
                    answered=time.monotonic(),
                    attempts=attempts,
                    error=str(error),
                )
            else:
                result = Sent(
                    model=model,
                    clip=clip,
                    sent=sent,
                    answered=time.monotonic(),
                    endpoint=transcript.endpoint,
                    attempts=transcript.attempts,
                    wrong=None if transcript.text == self.texts[model][clip] else transcript.text,
                )
            self.soak.requests.append(result)

    async def inject_faults(self) -> None:
        """Inject one fault after the other."""
        rng = np.random.default_rng(self.settings.seed)
        for fault in draw_faults(rng):
            await asyncio.sleep(rng.uniform(*self.settings.pause_seconds))
            if time.monotonic() > self.soak.ended - self.settings.pause_seconds[0]:
                break
            await self.inject_and_wait(fault, rng)
        self.injecting = False

    async def inject_and_wait(self, fault: Fault, rng: np.random.Generator) -> None:
        """Inject a fault into a server, and wait for its recovery. The steady server loses connections only."""
        index = int(rng.integers(STEADY if fault is Fault.CUT else STEADY + 1, len(self.servers)))
        server = self.servers[index]
        await until(lambda: server.is_ready, RECOVERY_SECONDS)
        injected = await inject(
            fault, index, server, self.proxies[index], rng, rng.uniform(*self.settings.stop_seconds)
        )
        self.soak.faults.append(injected)
        await until(lambda: self.has_recovered(injected), RECOVERY_SECONDS)

    def has_recovered(self, injected: Injected) -> bool:
        """Whether the server has answered a request that was sent after the fault; records the first."""
        since = injected.gone_until
        if since is None:
            return False
        url = self.proxies[injected.server].url
        # Requests are in the order of their answers.
        recent = takewhile(lambda request: request.answered > since, reversed(self.soak.requests))
        times = [request.answered for request in recent if request.endpoint == url and request.sent > since]
        injected.recovered = min(times, default=None)
        return injected.recovered is not None

    async def measure_memory(self) -> None:
        """Measure the memory of servers that are ready."""
        task = self.progress.add_task("load", total=self.settings.seconds)
        while self.injecting or time.monotonic() < self.soak.ended:
            now = time.monotonic()
            self.progress.update(task, completed=now - self.soak.began)
            for index, server in enumerate(self.servers):
                start = server.starts
                if server.is_ready:
                    size = (await asyncio.to_thread(footprint, server.pid)).memory
                    if server.is_ready and server.starts == start:
                        self.soak.memory.append(Memory(index, start, now, size))
            await asyncio.sleep(self.settings.memory_seconds)
