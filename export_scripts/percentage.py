"""A percentage on the command line: 2% or 0.02."""

from __future__ import annotations

import click


def percentage(text: str) -> float:
    """Read a percentage as a number from 0 to 1.

    Raises:
        click.BadParameter: anything else. A bare 2, which may mean 2%, would be 200%.
    """
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise click.BadParameter(f"{text!r} is not between 0% and 100%; for two percent write 2% or 0.02.")
    return value
