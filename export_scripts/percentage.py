"""A percentage on the command line, as 2% or as 0.02."""

from __future__ import annotations

import math
import sys

import click


def percentage(text: str) -> float:
    """Read a percentage such as 2% or 0.02, as a fraction.

    Values above 1 need the percent sign. They are possible, since more words can change than a text has.

    Raises:
        click.BadParameter: The text is not a percentage. A bare 2 is refused, because it may mean 2%.
    """
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= (sys.float_info.max if number.endswith("%") else 1):
        raise click.BadParameter(f"{text!r} is not a percentage; write 2% or 0.02.")
    return value
