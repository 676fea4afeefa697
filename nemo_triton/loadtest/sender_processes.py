"""Sends a plan's requests from several processes, for servers that one Python process can't keep busy."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType

from nemo_triton.errors import ClientError
from nemo_triton.loadtest.recording import Response
from nemo_triton.loadtest.schedule import Plan
from nemo_triton.loadtest.sender import Effort, OnResponse, PlanPart
from nemo_triton.loadtest.shared_audio import Block, SharedAudio
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.tls import Tls

_LEAD_SECONDS = 0.05
"""Between handing out a plan and its start, so that all processes begin together."""


@dataclass(frozen=True)
class Assignment:
    """What each process connects to and sends. `region`: the server's name of the block, None to send over the wire."""

    model: str
    url: str
    timeout: float
    tls: Tls | None
    block: Block
    region: str | None
    retries: int


@dataclass(frozen=True)
class _Task:
    plan: Plan
    part: int
    parts: int
    start: float


class WorkerSenders:
    """So many processes, each with a connection of its own, for as long as a `with` lasts."""

    def __init__(self, assignment: Assignment, processes: int) -> None:
        # Not forked: gRPC does not survive that.
        context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[SpawnProcess, Connection]] = []
        self._threads = ThreadPoolExecutor(processes)
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(assignment, theirs), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    async def run(self, plan: Plan, on_response: OnResponse) -> Effort:
        """As Senders.run. Raises ClientError where a process ends on its own."""
        await asyncio.gather(*(self._receive(worker) for worker in self._workers))
        start, parts = time.monotonic() + _LEAD_SECONDS, len(self._workers)
        for part, (_, connection) in enumerate(self._workers):
            connection.send(_Task(plan, part, parts, start))
        try:
            efforts = await asyncio.gather(*(self._collect(worker, on_response) for worker in self._workers))
        except BaseException:
            # What they would still send must not be counted as this run's.
            self._end()
            raise
        return Effort(
            tuple(seconds for effort in efforts for seconds in effort.cpu_seconds),
            tuple(seconds for effort in efforts for seconds in effort.loop_lag_seconds),
            any(effort.server_gone for effort in efforts),
        )

    async def _collect(self, worker: tuple[SpawnProcess, Connection], on_response: OnResponse) -> Effort:
        while True:
            message = await self._receive(worker)
            if isinstance(message, Effort):
                return message
            assert isinstance(message, Response)
            on_response(message)

    async def _receive(self, worker: tuple[SpawnProcess, Connection]) -> object:
        process, connection = worker
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, connection.recv)
        except (EOFError, OSError) as error:
            process.join(timeout=1)
            raise ClientError(
                f"a sending process ended with code {process.exitcode}; its error stands above"
            ) from error

    def __enter__(self) -> WorkerSenders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        self._threads.shutdown()
        for _, connection in self._workers:
            connection.close()

    def _end(self) -> None:
        for process, _ in self._workers:
            process.terminate()
        for process, _ in self._workers:
            process.join()


def _work(assignment: Assignment, connection: Connection) -> None:
    # An interrupt from the terminal reaches every process; the one that started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It also says once for all which servers are left out.
    logging.disable(logging.WARNING)
    with SharedAudio.attached(assignment.block) as audio:
        asyncio.run(_serve(assignment, audio, connection))


async def _serve(assignment: Assignment, audio: SharedAudio, connection: Connection) -> None:
    recordings = assignment.block.regions(assignment.region) if assignment.region else list(audio.samples())
    async with AsyncRecognizer(assignment.model, assignment.url, assignment.timeout, assignment.tls) as recognizer:
        while True:
            connection.send(None)  # Ready for a plan.
            try:
                task: _Task = await asyncio.to_thread(connection.recv)
            except EOFError:
                return
            part = PlanPart(recognizer, recordings, assignment.retries, task.start, connection.send)
            connection.send(await part.send(task.plan, task.part, task.parts))
