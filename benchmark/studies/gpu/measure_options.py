"""Options of the commands that time batches of utterances."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from benchmark.studies.gpu.timing import Limits

Command = TypeVar("Command", bound=Callable[..., Any])


def batch_options(slowest_help: str) -> Callable[[Command], Command]:
    """Add --batch (as `sizes`), --batches (as `count`), --seconds, --slowest and --budget.

    slowest_help: what a run that takes longer than --slowest ends
    """
    options = (
        click.option(
            "--batch",
            "sizes",
            multiple=True,
            type=click.IntRange(1),
            default=(1, 8, 32, 128),
            show_default=True,
            help="Utterances per batch; give it again for more sizes.",
        ),
        click.option(
            "--batches", "count", type=click.IntRange(1), default=4, show_default=True, help="Batches of each size."
        ),
        click.option("--seconds", default=1.0, show_default=True, help="Of each measurement, about."),
        click.option("--slowest", default=2.0, show_default=True, metavar="SECONDS", help=slowest_help),
        click.option("--budget", default=600.0, show_default=True, metavar="SECONDS", help="No run begins later."),
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def limits(*, seconds: float, slowest: float, budget: float) -> Limits:
    """What --seconds, --slowest and --budget say, from now on."""
    return Limits(seconds, slowest, time.monotonic() + budget)
