"""Keep a terminal readable if thousands of files have the same problem."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from nemo_triton.audio import LOG_NAME
from nemo_triton.terminal.exit_codes import print_warning

SHOWN_PER_KIND = 5
"""Warnings of a kind that a terminal shows."""


class RepeatedWarnings(logging.Filter):
    """A filter that passes the first warnings of each kind, and counts the others.

    The kind is the attribute `kind` of a log record; records without it pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[str] = Counter()
        # Files are read in several threads.
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Count a record, and return whether it is to be shown."""
        kind: str | None = getattr(record, "kind", None)
        if kind is None:
            return True
        with self._lock:
            self._counts[kind] += 1
            return self._counts[kind] <= SHOWN_PER_KIND

    def summary(self) -> list[str]:
        """One line for each kind that had more warnings than were shown."""
        return [
            f"{count - SHOWN_PER_KIND:,} more warnings of {kind}; to get them all, redirect stderr to a file"
            for kind, count in self._counts.items()
            if count > SHOWN_PER_KIND
        ]


@contextmanager
def merged_warnings() -> Iterator[None]:
    """Show only the first warnings of each kind about audio, and at the end how many there were more.

    A stderr that is no terminal gets them all: a log must name every file.
    """
    # A daemon may close it, and then it is None.
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    logger, repeated = logging.getLogger(LOG_NAME), RepeatedWarnings()
    logger.addFilter(repeated)
    try:
        yield
    finally:
        logger.removeFilter(repeated)
        for line in repeated.summary():
            print_warning(line)
