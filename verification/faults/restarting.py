"""A server that is started again whenever it ends, as systemd, Docker and Kubernetes do."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from server.process import Server, ServerError, is_ready, running_server

RESTART_SECONDS = 0.5
"""Pause between the end of a server and its next start."""
PROBE_INTERVAL_SECONDS = 0.05
PROBE_SECONDS = 2.0
"""Time after which a server that does not answer a probe is not ready."""
_ERROR = "error: "


@dataclass
class Outage:
    """A time in which a server is not ready. Times are those of time.monotonic().

    Attributes:
        began: First probe of /v2/health/ready without status 200, or the end of the process if that came first. None
            if there was no outage.
        ended: End of the process; None if it has not ended.
        code: Exit code as of subprocess: negative if a signal ended the supervisor. None if it has not ended.
        line: Error line of the supervisor; empty if it printed none.
        ready: When the server was ready again; None as long as it is not.
    """

    began: float | None = None
    ended: float | None = None
    code: int | None = None
    line: str = ""
    ready: float | None = None


class RestartingServer:
    """A server with a fixed gRPC address, running for the duration of a `with` block.

    Attributes:
        name: Name of the log files.
        server: The current process and its addresses; the previous ones while the server restarts.
        starts: Number of starts.
        outages: Outages so far, in order.
    """

    server: Server

    def __init__(self, repository: Path, arguments: Sequence[str], folder: Path, name: str) -> None:
        """Store the settings. The `with` block starts the server.

        Args:
            repository: The model repository.
            arguments: Arguments of tritonserver besides the repository and addresses.
            folder: Existing folder for the logs, one per start.
            name: Name of the log files.
        """
        self.name = name
        self.starts = 0
        self.outages: list[Outage] = []
        self._repository, self._arguments, self._folder = repository, arguments, folder
        self._first_error: ServerError | OSError | None = None
        self._served_once, self._stopping = threading.Event(), threading.Event()
        # The process ends with the thread that started it, so this thread lives as long as the server is needed.
        self._thread = threading.Thread(target=self._keep_running, daemon=True)

    @property
    def url(self) -> str:
        """Address of the gRPC endpoint as host:port."""
        return self.server.grpc

    @property
    def pid(self) -> int:
        """Process id of the current supervisor."""
        return self.server.process.pid

    @property
    def is_ready(self) -> bool:
        """Whether the last probe found the server ready."""
        return not self.outages or self.outages[-1].ready is not None

    def outage_after(self, moment: float) -> Outage:
        """The first outage that was not over at a moment; an outage without times if there is none yet."""
        lasting = (outage for outage in self.outages if outage.ready is None or outage.ready > moment)
        return next(lasting, Outage())

    def __enter__(self) -> RestartingServer:
        self._thread.start()
        try:
            self._served_once.wait()
        except BaseException:
            self._stop()
            raise
        if self._first_error:
            raise self._first_error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _keep_running(self) -> None:
        address = None
        while not self._stopping.is_set():
            self.starts += 1
            log = self._folder / f"{self.name}_{self.starts}.log"
            try:
                with running_server(self._repository, self._arguments, log, grpc=address) as server:
                    self.server, address = server, server.grpc
                    if not self.is_ready:
                        self.outages[-1].ready = time.monotonic()
                    self._served_once.set()
                    self._watch(server)
            except (ServerError, OSError) as error:
                if address is None:
                    self._first_error = error
                    self._served_once.set()
                    return
                # It ended while it started: the outage goes on.
            self._stopping.wait(RESTART_SECONDS)

    def _watch(self, server: Server) -> None:
        """Record outages until the process ends."""
        while not self._stopping.is_set():
            ready = is_ready(server.http, PROBE_SECONDS)
            code = server.process.poll()
            if (not ready or code is not None) and self.is_ready:
                self.outages.append(Outage(time.monotonic()))
            if code is not None:
                outage = self.outages[-1]
                outage.ended, outage.code, outage.line = time.monotonic(), code, _error_line(server.log)
                return
            if ready and not self.is_ready:
                self.outages[-1].ready = time.monotonic()
            self._stopping.wait(PROBE_INTERVAL_SECONDS)


def _error_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(_ERROR)]
    return lines[-1].removeprefix(_ERROR) if lines else ""
