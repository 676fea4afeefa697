"""Ends the models' processes that a killed tritonserver leaves behind.

Triton's Python backend runs each instance of a model in a process of its own, a stub, which ends when its server does.
One whose server is killed while it answers does not: it waits for the server with Python's lock held, and its thread
that has noticed waits for that lock (Stub::~Stub and Stub::ProcessRequests of Triton 2.51). Nothing that runs in the
stub can help it, so a process beside the server looks after them.
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
LOOK_SECONDS = 0.05
_CONTAINERS_FIRST = 1
_REGION, _SERVER = 2, 5
"""Places in a stub's command line: its part of /dev/shm, and the server's process."""


def watch_over(server: int) -> None:
    """Start the process that outlives `server`, this one, until its stubs are gone.

    The first process of a container needs none, since nothing there outlives it.
    """
    if server != _CONTAINERS_FIRST:
        command = [sys.executable, "-I", __file__, str(server)]
        nowhere = subprocess.DEVNULL
        # In a session of its own, an interrupt from the terminal is not for it.
        subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)


def main() -> None:
    """Wait for the end of the server whose process is the argument, the parent of this one."""
    server = int(sys.argv[1])
    while os.getppid() == server:
        time.sleep(LOOK_SECONDS)
    end_stubs(server)


def end_stubs(server: int) -> None:
    """Kill what `server` has left, and free the memory that it shared with them."""
    for process, arguments in _processes():
        if Path(arguments[0]).name == STUB and arguments[_SERVER : _SERVER + 1] == [str(server)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            (Path("/dev/shm") / Path(arguments[_REGION]).name).unlink(missing_ok=True)


def _processes() -> list[tuple[int, list[str]]]:
    """This user's, with their command lines: anybody may call a process as a stub is called, and name any file."""
    processes = []
    for folder in Path("/proc").iterdir():
        # One may end while it is looked at.
        with suppress(OSError):
            if folder.name.isdecimal() and folder.stat().st_uid == os.getuid():
                processes.append((int(folder.name), os.fsdecode((folder / "cmdline").read_bytes()).split("\0")))
    return processes


if __name__ == "__main__":
    main()
