"""Try requests that end Triton, on a server with everything open and on one with the launcher's defaults.

    python -m verification.attack.server_enders NAME --repository R --page docs/security_server.md

Each request gets a running server. Afterwards an ordinary request shows whether the server still serves. The table
replaces the one in the page. Exit code 1 if a request ends a server although the launcher's defaults keep such clients
from sending it.
"""

from __future__ import annotations

import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import grpc
import psutil
from rich.console import Console
from rich.progress import track
from tritonclient.grpc import service_pb2

from nemo_triton.contract import FEATURES, Part
from nemo_triton.terminal import options
from server.access import ADMIN, HTTP_INFERENCE
from server.process import Server, running_server
from verification.attack.hostile_requests import (
    CONNECTION_ERRORS,
    REQUESTS,
    Access,
    HostileRequest,
    Target,
    audio_request,
    connect,
)
from verification.page_sections import write_section
from verification.server_processes import stubs_of, tritonserver_of

LAUNCHES: dict[str, tuple[str, ...]] = {"everything open": (ADMIN, HTTP_INFERENCE), "launcher's defaults": ()}
"""The columns of the table: what the launcher leaves open."""
CLOSED: set[tuple[str, Access]] = {
    ("gRPC", "administration"),
    ("HTTP", "administration"),
    ("HTTP", "inference"),
}
"""What the launcher's defaults refuse."""
STAGE_MEMORY = 6 * 2**30
"""Bytes that a stage's process may allocate, so that a lie about a length can't take the machine's memory."""
_STAGE_DIED = re.compile(r"error: the process of model instance (\w+)_\d+_\d+ .*? (?:was killed by|ended with) (.*?);")
"""The supervisor's line."""
SETTLED_AFTER = 0.5
"""Seconds after a request until the server is examined: a crash takes some milliseconds."""
ENDS_WITHIN = 6.0
"""Seconds in which a server that doesn't serve any more must end."""


@contextmanager
def target_server(repository: Path, model: str, opened: Sequence[str]) -> Iterator[Target]:
    """Serve a recognizer, its stages limited in memory, with a shared memory file for requests."""
    # Model control is `explicit`, the mode in which clients could load models.
    only = ["--model-control-mode=explicit", f"--load-model={model}"]
    with (
        tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="hostile") as shared_memory,
        running_server(repository, only, opened=opened) as server,
    ):
        shared_memory.write(bytes(4096))
        shared_memory.flush()
        for stage in stubs_of(server.process.pid):
            psutil.Process(stage).rlimit(psutil.RLIMIT_DATA, (STAGE_MEMORY, STAGE_MEMORY))
        stub = connect(server)
        yield Target(
            server,
            model,
            mels=_mels(stub, model),
            stub=stub,
            shared_memory=f"/{Path(shared_memory.name).name}",
            stage_memory=f"/{_stage_memory(server).name}",
        )


def _stage_memory(server: Server) -> Path:
    """A file in /dev/shm that this server has mapped."""
    maps = psutil.Process(tritonserver_of(server.process.pid)).memory_maps()
    return next(Path(region.path) for region in maps if region.path.startswith("/dev/shm/triton"))


def _mels(stub: Any, model: str) -> int:
    request = service_pb2.ModelConfigRequest(name=Part.ENCODER.of(model))
    config = stub.ModelConfig(request, timeout=30).config
    return int(next(tensor.dims[-1] for tensor in config.input if tensor.name == FEATURES.name))


def attempt(target: Target, request: HostileRequest) -> tuple[str, bool]:
    """Send a request.

    Returns:
        What happened, and whether the server still serves.
    """
    try:
        result = f"answered: {request.send(target)}"
    except grpc.RpcError as error:
        result = f"refused: {error.code().name}: {error.details()}"
    except TimeoutError:
        result = "no response"
    except CONNECTION_ERRORS as error:
        result = f"connection closed: {error}"
    time.sleep(SETTLED_AFTER)
    try:
        target.stub.ModelInfer(audio_request(target.model), timeout=30)
    except grpc.RpcError:
        return _end(target.server), False
    return result, True


def _end(server: Server) -> str:
    """Describe the end of a server that doesn't serve any more."""
    deadline = time.monotonic() + ENDS_WITHIN
    while server.process.poll() is None:
        if time.monotonic() > deadline:
            return "**every later request fails**"
        time.sleep(0.1)
    code = server.process.returncode
    died = _STAGE_DIED.search(server.log.read_text(errors="replace"))
    if died:
        return f"**server ends** (stage {died[1]}: {died[2]})"
    return f"**server ends** ({signal.Signals(code - 128).name if code > 128 else f'exit code {code}'})"


def attempt_all(
    repository: Path, model: str, opened: Sequence[str], requests: Iterable[HostileRequest]
) -> Iterator[tuple[HostileRequest, str, bool]]:
    """Send requests one after another, each to a server that serves.

    Yields:
        Each request, what happened, and whether the server still served afterwards.
    """
    left = list(requests)
    while left:
        with target_server(repository, model, opened) as target:
            serves = True
            while left and serves:
                request = left.pop(0)
                result, serves = attempt(target, request)
                yield request, result, serves


def short(result: str) -> str:
    """The result in a few words, for a cell of the table."""
    if "restricted" in result:
        return "refused: restricted"
    if result.startswith("answered: ") and result[10:13].isdigit():
        status = int(result[10:13])
        return f"{'answered' if status < 400 else 'refused'}: {status}"
    return result if result.startswith("**") else ":".join(result.split(":")[: 2 if "refused" in result else 1])


def table(results: dict[HostileRequest, list[str]]) -> str:
    """The results as a Markdown table."""
    rows = [["request", "by", "needs", *LAUNCHES], ["---"] * (3 + len(LAUNCHES))]
    rows += [
        [request.name, request.protocol, "" if request.access == "none" else request.access, *map(short, cells)]
        for request, cells in results.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@click.command(help=__doc__)
@click.argument("model", metavar="NAME")
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Model repository to serve."
)
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Markdown page whose table is replaced.",
)
def main(model: str, repository: Path, page: Path) -> None:
    """Try all requests, write the table, and exit."""
    results: dict[HostileRequest, list[str]] = {request: [] for request in REQUESTS}
    open_doors = []
    for launch, opened in LAUNCHES.items():
        attempts = attempt_all(repository, model, opened, REQUESTS)
        for request, result, serves in track(
            attempts, description=launch, total=len(REQUESTS), console=Console(stderr=True)
        ):
            results[request].append(result)
            if not serves and not opened and (request.protocol, request.access) in CLOSED:
                open_doors.append(f"{request.name}, {request.protocol}: {result}")
    write_section(page, "server-enders", table(results))
    click.echo(table(results))
    for line in open_doors:
        click.echo(f"error: {line}", err=True)
    sys.exit(1 if open_doors else 0)


if __name__ == "__main__":
    options.run(main)
