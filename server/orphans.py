"""Kill the model processes that a killed tritonserver leaves behind.

Triton's Python backend runs each model instance in its own process, called a stub. A stub ends with its server, except
when the server is killed during a request. Then the stub waits for the server while it holds Python's lock, and the
thread that noticed the end waits for that lock (Stub::~Stub and Stub::ProcessRequests of Triton 2.51). The stub can't
end itself, so a watcher process kills it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

STUB = "triton_python_backend_stub"
POLL_SECONDS = 0.05
_CONTAINER_INIT = 1
"""Process id of the first process in a container."""
_REGION, _SERVER = 2, 5
"""Indices of a stub's arguments: its region of /dev/shm, and the server's process id."""


def watch_over(server: int) -> None:
    """Start the watcher of `server`, which is this process.

    The first process of a container needs no watcher: when it ends, everything in the container ends.
    """
    if server != _CONTAINER_INIT:
        command = [sys.executable, "-I", __file__, str(server)]
        null = subprocess.DEVNULL
        # In a new session the watcher gets no interrupt from the terminal.
        subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)


def main() -> None:
    """Wait until the server ends, then kill its stubs. The argument is its process id; it is this process's parent."""
    server = int(sys.argv[1])
    while os.getppid() == server:
        time.sleep(POLL_SECONDS)
    end_stubs(server)


def end_stubs(server: int) -> None:
    """Kill the stubs of `server`, and free their shared memory."""
    for process, arguments in _processes():
        if Path(arguments[0]).name == STUB and arguments[_SERVER : _SERVER + 1] == [str(server)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            (Path("/dev/shm") / Path(arguments[_REGION]).name).unlink(missing_ok=True)


def _processes() -> list[tuple[int, list[str]]]:
    """This user's processes with their command lines. Another user could fake a stub that names any file."""
    processes = []
    for folder in Path("/proc").iterdir():
        # A process may end in between.
        with suppress(OSError):
            if folder.name.isdecimal() and folder.stat().st_uid == os.getuid():
                processes.append((int(folder.name), os.fsdecode((folder / "cmdline").read_bytes()).split("\0")))
    return processes


if __name__ == "__main__":
    main()
