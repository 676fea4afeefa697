"""Keep notes of native libraries away from stderr."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STDERR = 2


class LibraryOutput:
    """What native libraries write to this process's stderr.

    Args:
        stderr: A copy of the process's stderr; None if Python's stderr is another file, then nothing is changed.
    """

    def __init__(self, stderr: int | None) -> None:
        self._stderr = stderr

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Drop it. libmpg123 prints several lines about a damaged MP3, and no setting turns them off.

        Processes that start meanwhile get no stderr.
        """
        if self._stderr is None:
            yield
            return
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(self._stderr, _STDERR)


@contextmanager
def separate_stderr() -> Iterator[LibraryOutput]:
    """Give Python's stderr another descriptor than the libraries', which can then be silenced."""
    try:
        is_process_stderr = sys.stderr.fileno() == _STDERR
    except (AttributeError, io.UnsupportedOperation):
        is_process_stderr = False
    if not is_process_stderr:
        # A test or a program that embeds this one has replaced it.
        yield LibraryOutput(None)
        return
    replaced = sys.stderr
    replaced.flush()
    copy = os.dup(_STDERR)
    with os.fdopen(copy, "w", encoding=replaced.encoding, errors=replaced.errors, buffering=1) as python_only:
        sys.stderr = python_only
        try:
            yield LibraryOutput(copy)
        finally:
            python_only.flush()
            sys.stderr = replaced


@contextmanager
def only_python_prints() -> Iterator[None]:
    """Let only Python write to this process's stderr, see LibraryOutput.silenced."""
    with separate_stderr() as libraries, libraries.silenced():
        yield
