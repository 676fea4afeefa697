"""Kill what a killed supervisor leaves behind: tritonserver and its model processes.

Triton's Python backend runs each model instance in its own process, called a stub. A stub ends with its server, except
when the server is killed during a request. Then the stub waits for the server while it holds Python's lock, and the
thread that noticed the end waits for that lock (Stub::~Stub and Stub::ProcessRequests of Triton 2.51). The stub can't
end itself. The supervisor kills it, and if the supervisor itself was killed, this watcher process does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

STUB = "triton_python_backend_stub"
_REGION, _SERVER = 2, 5
"""Indices of a stub's arguments: its region of /dev/shm, and the server's process id."""


def start_watcher(server: int) -> subprocess.Popen[bytes]:
    """Start a process that kills the server and its stubs when this process has ended.

    Args:
        server: Process id of tritonserver.
    """
    command = [sys.executable, "-I", __file__, str(server)]
    null = subprocess.DEVNULL
    # The watcher reads its standard input, which ends with this process. In a new session it gets no signal from the
    # terminal.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True)


def main() -> None:
    """Wait for the end of standard input, then kill the server, whose process id is the argument, and its stubs."""
    server = int(sys.argv[1])
    sys.stdin.read()
    # Before the server, because a stub that ends by itself leaves its shared memory behind.
    end_stubs(server)
    with suppress(ProcessLookupError):
        os.kill(server, signal.SIGKILL)
    end_stubs(server)


def end_stubs(server: int) -> None:
    """Kill the stubs of `server`, and free their shared memory."""
    for process, arguments in _processes():
        if Path(arguments[0]).name == STUB and arguments[_SERVER : _SERVER + 1] == [str(server)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            _region(arguments).unlink(missing_ok=True)


def shared_memory_of(stub: int) -> Path | None:
    """The file in /dev/shm of a stub; None if the process is another or has ended."""
    with suppress(OSError):
        arguments = os.fsdecode(Path(f"/proc/{stub}/cmdline").read_bytes()).split("\0")
        if Path(arguments[0]).name == STUB:
            return _region(arguments)
    return None


def _region(arguments: list[str]) -> Path:
    return Path("/dev/shm") / Path(arguments[_REGION]).name


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
