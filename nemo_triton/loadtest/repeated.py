"""Error lines of a load test under which many requests fail for one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

SHOWN = 10
"""Lines per reason. More would hide the tables, and add only names."""


@dataclass
class RepeatedErrors:
    """Shows the first errors of each reason as they come, and at the end how many more there were.

    Attributes:
        show: Shows one line.
    """

    show: Callable[[str], None]
    _counts: Counter[str] = field(default_factory=Counter, init=False)

    def add(self, line: str, reason: str) -> None:
        """Show an error, if it is one of the first of its reason.

        Args:
            line: The line to show.
            reason: What the lines of other requests have in common with it.
        """
        self._counts[reason] += 1
        if self._counts[reason] <= SHOWN:
            self.show(line)

    def end(self) -> None:
        """Show how many errors of each reason were not shown."""
        for reason, count in self._counts.items():
            if count > SHOWN:
                self.show(f"{count - SHOWN} more requests: {reason}")
        self._counts.clear()
