"""Keep notes of native libraries away from stderr."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STDERR = 2


@contextmanager
def only_python_prints() -> Iterator[None]:
    """Let only Python write to this process's stderr.

    libmpg123 prints several lines about a damaged MP3, and no setting turns them off. Processes that start meanwhile
    get no stderr.
    """
    try:
        is_process_stderr = sys.stderr.fileno() == _STDERR
    except (AttributeError, io.UnsupportedOperation):
        is_process_stderr = False
    if not is_process_stderr:
        # A test or a program that embeds this one has replaced it.
        yield
        return
    replaced = sys.stderr
    replaced.flush()
    copy = os.dup(_STDERR)
    with (
        os.fdopen(copy, "w", encoding=replaced.encoding, errors=replaced.errors, buffering=1) as python_only,
        Path(os.devnull).open("wb") as nowhere,
    ):
        os.dup2(nowhere.fileno(), _STDERR)
        sys.stderr = python_only
        try:
            yield
        finally:
            python_only.flush()
            os.dup2(copy, _STDERR)
            sys.stderr = replaced
