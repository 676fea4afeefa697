"""A server of our own for the benchmark commands, one line where it does not start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nemo_triton.errors import ServerUnavailableError, one_line
from server.process import Server, ServerError, running_server


@contextmanager
def serving(repository: Path, arguments: Sequence[str], seconds: float = 120) -> Iterator[Server]:
    """As server.process.running_server, but raises ServerUnavailableError."""
    try:
        with running_server(repository, arguments, seconds=seconds) as server:
            yield server
    except ServerError as error:
        raise ServerUnavailableError(one_line(error)) from error
