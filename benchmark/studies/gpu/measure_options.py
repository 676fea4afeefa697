"""Options of the commands that time batches of utterances."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from benchmark.studies.gpu.timing import Limits

Command = TypeVar("Command", bound=Callable[..., Any])


def batch_options(slowest_help: str) -> Callable[[Command], Command]:
    """Add the options --batch (as `sizes`), --batches (as `count`), --seconds, --slowest and --budget.

    Args:
        slowest_help: Help of --slowest: what ends after a longer run.
    """
    options = (
        click.option(
            "--batch",
            "sizes",
            multiple=True,
            type=click.IntRange(1),
            default=(1, 8, 32, 128),
            show_default=True,
            help="Utterances per batch; repeat for more sizes.",
        ),
        click.option(
            "--batches", "count", type=click.IntRange(1), default=4, show_default=True, help="Batches of each size."
        ),
        click.option("--seconds", default=1.0, show_default=True, help="Approximate length of each measurement."),
        click.option("--slowest", default=2.0, show_default=True, metavar="SECONDS", help=slowest_help),
        click.option(
            "--budget", default=600.0, show_default=True, metavar="SECONDS", help="Time limit: no run starts later."
        ),
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def limits(*, seconds: float, slowest: float, budget: float) -> Limits:
    """The limits of --seconds, --slowest and --budget, starting now."""
    return Limits(seconds, slowest, time.monotonic() + budget)
