"""Run tritonserver and end it when one of its model processes dies, so that the whole server is restarted.

Triton 2.51 can't replace a model process that died: it stays ready while every request of that model fails. The
supervisor kills such a server and exits with code 1. So systemd, Docker and Kubernetes start a new one, and clients
send their requests elsewhere.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from server.model_processes import ModelProcesses
from server.orphans import end_stubs, start_watcher

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that end the server. They arrive here, because others know this process as the server."""
_CONTAINER_INIT = 1
"""Process id of the first process in a container. When it ends, the kernel kills everything in the container."""
_SETTLE_SECONDS = 0.3
"""Time in which a killed server is noticed whose model processes have ended before it."""
_SIGNAL_CODE = 128
"""Exit codes of processes that a signal ended begin here, as in a shell."""


def main() -> NoReturn:
    """Run the command in this process's arguments as the server, and exit with its code."""
    sys.exit(supervise(sys.argv[1:], os.environ))


def supervise(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a server until it ends.

    Args:
        command: The server's binary and its arguments.
        environment: The server's environment variables.

    Returns:
        The exit code: the server's own, or 1 if a model process died.
    """
    # Signals are handled in the loop only, through this socket, so that none is lost in between.
    waker, woken = socket.socketpair()
    for end in (waker, woken):
        end.setblocking(False)
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    processes = ModelProcesses()
    server = subprocess.Popen(command, env={**environment, **processes.environment})
    loop = _Loop(server, processes, woken)
    try:
        return loop.run()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
        end_stubs(server.pid)
        processes.free_shared_memory()
        if loop.watcher:
            loop.watcher.kill()


@dataclass
class _Loop:
    server: subprocess.Popen[bytes]
    processes: ModelProcesses
    woken: socket.socket
    stopping: bool = False
    watcher: subprocess.Popen[bytes] | None = None
    selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)

    def run(self) -> int:
        self.selector.register(self.woken, selectors.EVENT_READ)
        self.selector.register(self.processes.listener, selectors.EVENT_READ)
        self.watch()
        while True:
            death = None
            for key, _ in self.selector.select():
                if key.fileobj is self.woken:
                    self.handle_signals()
                elif key.fileobj is self.processes.listener:
                    connection = self.processes.accept()
                    if connection:
                        self.selector.register(connection, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket):
                    death = self.read(key.fileobj) or death
            if death and not self.stopping and not self.ends_by_itself():
                _print(f"error: {death}; the server ends, because Triton can't replace it")
                self.server.kill()
                self.server.wait()
                return 1
            if self.server.poll() is not None:
                return self.exit_code(self.server.returncode)
            self.watch()

    def read(self, connection: socket.socket) -> str | None:
        if self.processes.receive(connection):
            return None
        self.selector.unregister(connection)
        return self.processes.death(connection)

    def handle_signals(self) -> None:
        with suppress(BlockingIOError):
            for number in self.woken.recv(4096):
                if number != signal.SIGCHLD:
                    self.stopping = True
                    self.server.send_signal(number)

    def ends_by_itself(self) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self.server.wait(_SETTLE_SECONDS)
        return self.server.returncode is not None

    def watch(self) -> None:
        """Start the watcher, also in place of one that was killed."""
        if os.getpid() != _CONTAINER_INIT and (self.watcher is None or self.watcher.poll() is not None):
            self.watcher = start_watcher(self.server.pid)

    def exit_code(self, code: int) -> int:
        """The supervisor's exit code after Triton's own end; prints a line if a signal ended it."""
        if code >= 0:
            return code
        _print(f"error: tritonserver {self.processes.describe_end(-code)}")
        return _SIGNAL_CODE - code


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
