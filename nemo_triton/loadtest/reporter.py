"""Where a load test tells of its progress and problems while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Advance = Callable[[], None]
"""Counts one step of a task."""


class Reporter(Protocol):
    """Shows a user what happens."""

    def problem(self, line: str) -> None:
        """Show one line about an utterance without a result, or about the run."""

    def begin_task(self, description: str, total: int | None) -> Advance:
        """Show that a task of so many steps begins; None is an unknown number of steps."""
