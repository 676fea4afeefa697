"""Tell the server's supervisor which model this process serves, so that its death is noticed."""

from __future__ import annotations

import os
import socket

SUPERVISOR_VARIABLE = "NEMO_TRITON_SUPERVISOR"
"""Environment variable with the name of the supervisor's socket (server/model_processes.py); not set without one."""


class Supervision:
    """This process's connection to the supervisor. The kernel closes it when the process dies."""

    def __init__(self, instance: str) -> None:
        """Connect, if there is a supervisor.

        Args:
            instance: Name of the model instance that this process serves.

        Raises:
            OSError: The supervisor has ended.
        """
        self._connection: socket.socket | None = None
        name = os.environ.get(SUPERVISOR_VARIABLE)
        if name:
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._connection.connect(f"\0{name}")
            self._connection.send(instance.encode())

    def end(self) -> None:
        """Announce that this process ends as planned: any second message says so."""
        if self._connection:
            self._connection.send(b"unloaded")
            self._connection.close()
