"""Start tritonserver for a benchmark command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nemo_triton.errors import ServerUnavailableError, one_line
from server.process import Server, ServerError, running_server


@contextmanager
def serving(repository: Path, arguments: Sequence[str], seconds: float = 120) -> Iterator[Server]:
    """Run tritonserver for the block.

    Args:
        repository: Model repository to serve.
        arguments: Arguments of tritonserver.
        seconds: Time limit for the start, in seconds.

    Raises:
        ServerUnavailableError: The server did not start.
    """
    try:
        with running_server(repository, arguments, seconds=seconds) as server:
            yield server
    except ServerError as error:
        raise ServerUnavailableError(one_line(error)) from error
