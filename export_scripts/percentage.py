"""A percentage on the command line, as 2% or as 0.02."""

from __future__ import annotations

import click


def percentage(text: str) -> float:
    """Read a number from 0 to 1.

    Raises:
        click.BadParameter: for anything else. A bare 2 may be meant as 2%, and would be 200%.
    """
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise click.BadParameter(f"{text!r} is not between 0% and 100%; write 2% or 0.02 for two in a hundred.")
    return value
