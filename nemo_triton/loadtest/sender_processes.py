"""Send the requests of a plan from several processes, for servers that one Python process can't saturate."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType

from nemo_triton.endpoint_pool import OUTLIER_LOG_NAME
from nemo_triton.errors import ClientError
from nemo_triton.loadtest.recording import Response
from nemo_triton.loadtest.schedule import Plan
from nemo_triton.loadtest.sender import Audio, Effort, OnResponse, PlanPart
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.tls import Tls

_outlier_log = logging.getLogger(OUTLIER_LOG_NAME)
_LEAD_SECONDS = 0.05
"""Delay between handing out a plan and its start, so that all processes start together."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Connection and audio of each sending process.

    Attributes:
        model: The recognizer's name.
        url: Addresses of the servers as host:port, separated by commas.
        timeout: Deadline of one request in seconds.
        tls: TLS settings; None connects without TLS.
        audio: Where the samples of each recording are: in a spool or in shared memory.
        retries: Number of retries of a request if the server is down.
    """

    model: str
    url: str
    timeout: float
    tls: Tls | None
    audio: Sequence[Audio]
    retries: int


@dataclass(frozen=True, kw_only=True)
class _Task:
    plan: Plan
    number: int
    parts: int
    start: float


@dataclass(frozen=True, kw_only=True)
class _Event:
    """A message of a sending process's log."""

    level: int
    line: str


class _EventHandler(logging.Handler):
    """A handler that sends log messages to the parent process."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self._connection.send(_Event(level=record.levelno, line=record.getMessage()))


class ProcessSenders:
    """Several sending processes, each with its own connection; they end with the `with` block."""

    def __init__(self, assignment: Assignment, processes: int) -> None:
        # spawn, because gRPC does not work in a forked process.
        context = multiprocessing.get_context("spawn")
        self._processes: list[tuple[SpawnProcess, Connection]] = []
        self._threads = ThreadPoolExecutor(processes)
        for _ in range(processes):
            parent_end, child_end = context.Pipe()
            process = context.Process(target=_run_process, args=(assignment, child_end), daemon=True)
            process.start()
            child_end.close()
            self._processes.append((process, parent_end))

    async def run(self, plan: Plan, on_response: OnResponse) -> Effort:
        """See Senders.run.

        Raises:
            ClientError: A sending process ended unexpectedly.
        """
        await asyncio.gather(*(self._receive(process) for process in self._processes))
        start, parts = time.monotonic() + _LEAD_SECONDS, len(self._processes)
        for number, (_, connection) in enumerate(self._processes):
            connection.send(_Task(plan=plan, number=number, parts=parts, start=start))
        try:
            efforts = await asyncio.gather(*(self._collect(process, on_response) for process in self._processes))
        except BaseException:
            # Later responses must not count as responses to another plan.
            self._end()
            raise
        return Effort(
            cpu_seconds=tuple(seconds for effort in efforts for seconds in effort.cpu_seconds),
            loop_lag_seconds=tuple(seconds for effort in efforts for seconds in effort.loop_lag_seconds),
            server_gone=any(effort.server_gone for effort in efforts),
        )

    async def _collect(self, sender: tuple[SpawnProcess, Connection], on_response: OnResponse) -> Effort:
        while True:
            message = await self._receive(sender)
            if isinstance(message, Effort):
                return message
            assert isinstance(message, Response)
            on_response(message)

    async def _receive(self, sender: tuple[SpawnProcess, Connection]) -> object:
        """Receive a message that is not an event, and log the events before it."""
        process, connection = sender
        try:
            while True:
                message = await asyncio.get_running_loop().run_in_executor(self._threads, connection.recv)
                if not isinstance(message, _Event):
                    return message
                _outlier_log.log(message.level, message.line)
        except (EOFError, OSError) as error:
            process.join(timeout=1)
            raise ClientError(f"a sending process ended with code {process.exitcode}; see its error above") from error

    def __enter__(self) -> ProcessSenders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        self._threads.shutdown()
        for _, connection in self._processes:
            connection.close()

    def _end(self) -> None:
        for process, _ in self._processes:
            process.terminate()
        for process, _ in self._processes:
            process.join()


def _run_process(assignment: Assignment, connection: Connection) -> None:
    # Ctrl-C reaches every process of the terminal; only the parent process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Only the parent process logs which servers are down, so that each event is logged once. It doesn't know which are
    # ejected, because it sends no requests.
    logging.getLogger().setLevel(logging.ERROR)
    _outlier_log.setLevel(logging.INFO)
    _outlier_log.propagate = False
    _outlier_log.addHandler(_EventHandler(connection))
    asyncio.run(_serve(assignment, connection))


async def _serve(assignment: Assignment, connection: Connection) -> None:
    async with AsyncRecognizer(assignment.model, assignment.url, assignment.timeout, assignment.tls) as recognizer:
        while True:
            connection.send(None)  # Ready for the next plan.
            try:
                task: _Task = await asyncio.to_thread(connection.recv)
            except EOFError:
                return
            part = PlanPart(
                recognizer=recognizer,
                audio=assignment.audio,
                retries=assignment.retries,
                start=task.start,
                on_response=connection.send,
            )
            connection.send(await part.send(task.plan, number=task.number, parts=task.parts))
