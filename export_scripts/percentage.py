"""A percentage on the command line, as 2% or as 0.02."""

from __future__ import annotations

import math
import sys

import click


def percentage(text: str) -> float:
    """Read a share such as 2% or 0.02.

    A share above 1 needs the percent sign: a text can have more changed words than words.

    Raises:
        click.BadParameter: The text is no share. A bare 2 is refused, because it may be meant as 2%.
    """
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= (sys.float_info.max if number.endswith("%") else 1):
        raise click.BadParameter(f"{text!r} is not a share; write 2% or 0.02 for two in a hundred.")
    return value
