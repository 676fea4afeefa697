"""The option --channel."""

from __future__ import annotations

from collections.abc import Callable

import click

from nemo_triton.audio import Channel
from nemo_triton.terminal.options import Command

_NAMES: tuple[Channel, ...] = ("left", "right", "average")


def channel_option(text: str, *, each: bool = False) -> Callable[[Command], Command]:
    """Add --channel.

    Args:
        text: The help text.
        each: Allow the value "each", which the command gets as None.
    """
    names = [str(name) for name in _NAMES] + ["each"] * each

    def read(context: click.Context, parameter: click.Parameter, value: str) -> Channel | None:
        if each and value == "each":
            return None
        for name in _NAMES:
            if value == name:
                return name
        if value.isdecimal():
            return int(value)
        choice = f"{', '.join(names[:-1])} or {names[-1]}"
        raise click.BadParameter(f"{value!r} is no channel; give a number from 0, {choice}")

    metavar = "|".join([*names[:2], "N", *names[2:]])
    return click.option("--channel", default="average", show_default=True, metavar=metavar, callback=read, help=text)
