"""The processes that serve models, and how one of them died.

Triton's Python backend runs each model instance in its own process, called a stub. If one dies, Triton (2.51) stays
ready and fails every request of that model. So each process of our backend connects to the supervisor when its model is
loaded (backends/onnxruntime/supervision.py), and the kernel closes the connection when the process dies.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from server.cgroup import oom_kills
from server.orphans import shared_memory_of

SUPERVISOR_VARIABLE = "NEMO_TRITON_SUPERVISOR"
"""Environment variable that tells the processes of our backend the name of the supervisor's socket."""
_MESSAGE_BYTES = 4096
_CREDENTIALS = struct.Struct("3i")
"""The kernel's `struct ucred`: process, user and group at the other end."""
_EXIT_STATUS_SECONDS = 0.5
"""Longest wait for the exit status of a process whose connection has closed."""
_STATE, _EXIT_STATUS = 0, 49
"""Indices in /proc/PID/stat after the process's name (man 5 proc: fields 3 and 52)."""


@dataclass
class ModelProcess:
    """A process that serves a model instance.

    Attributes:
        process: Process id.
        shared_memory: File in /dev/shm through which Triton and the process pass tensors; None if it is unknown.
        instance: Name of the instance, which begins with the model's name; empty until the process has sent it.
        unloaded: Whether the process ends as planned.
    """

    process: int
    shared_memory: Path | None
    instance: str = ""
    unloaded: bool = False


@dataclass
class ModelProcesses:
    """The connections of all model processes of a server.

    Attributes:
        listener: Socket that the processes connect to, in Linux's abstract namespace.
    """

    listener: socket.socket = field(init=False)
    _name: str = field(default_factory=lambda: f"nemo-triton-{os.getpid()}-{secrets.token_hex(8)}", init=False)
    _processes: dict[socket.socket, ModelProcess] = field(default_factory=dict, init=False)
    _ended: list[ModelProcess] = field(default_factory=list, init=False)
    _oom_kills_before: int = field(default_factory=oom_kills, init=False)

    def __post_init__(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(f"\0{self._name}")
        self.listener.listen(128)

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables with which the processes find the supervisor."""
        return {SUPERVISOR_VARIABLE: self._name}

    def accept(self) -> socket.socket | None:
        """Accept the connection of a model process; None if it is of another user, who could fake a death."""
        connection, _ = self.listener.accept()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process, user, _ = _CREDENTIALS.unpack(credentials)
        if user != os.geteuid():
            connection.close()
            return None
        self._processes[connection] = ModelProcess(process, shared_memory_of(process))
        return connection

    def receive(self, connection: socket.socket) -> bool:
        """Read a message: the first is the instance's name, the second that the process ends as planned.

        Returns:
            Whether the process still lives.
        """
        process = self._processes[connection]
        try:
            message = connection.recv(_MESSAGE_BYTES)
        except OSError:
            message = b""
        if not message:
            connection.close()
            return False
        process.unloaded = bool(process.instance)
        process.instance = process.instance or message.decode(errors="replace")
        return True

    def death(self, connection: socket.socket) -> str | None:
        """Forget a process that has ended, and say how it died; None if it ended as planned."""
        process = self._processes.pop(connection)
        self._ended.append(process)
        if process.unloaded or not process.instance:
            return None
        how = self.describe_end(_exit_status(process.process))
        return f"the process of model instance {process.instance} (process {process.process}) {how}"

    def describe_end(self, status: int) -> str:
        """How a process of the server ended, in words, and whether memory has run out since the server's start.

        Args:
            status: Exit status as `wait` returns it.
        """
        return describe_status(status) + ("; out of memory" if oom_kills() > self._oom_kills_before else "")

    def free_shared_memory(self) -> None:
        """Remove the shared memory of all processes, after the server's end.

        Triton removes that of an unloaded model. But a process also unloads its model, as planned, because Triton was
        killed.
        """
        for process in (*self._ended, *self._processes.values()):
            if process.shared_memory:
                process.shared_memory.unlink(missing_ok=True)


def describe_status(status: int) -> str:
    """How a process ended, in words.

    Args:
        status: Exit status as `wait` returns it.
    """
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"was killed by {_signal_name(number)}"
    return f"ended with code {os.WEXITSTATUS(status)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _exit_status(process: int) -> int:
    """The exit status of a process that Triton has not waited for; the last one known if it has."""
    status = 0
    deadline = time.monotonic() + _EXIT_STATUS_SECONDS
    while time.monotonic() < deadline:
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            break
        status = int(fields[_EXIT_STATUS])
        if fields[_STATE] == "Z":
            break
        time.sleep(0.005)
    return status
