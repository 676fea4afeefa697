"""A share on the command line, as 2% or as 0.02."""

from __future__ import annotations

import click


def share(text: str) -> float:
    """From 0 to 1. Raises click.BadParameter for anything else: a bare 2 may be meant as 2%, and would be 200%."""
    number = text.strip()
    try:
        found = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        found = float("nan")
    if not 0 <= found <= 1:
        raise click.BadParameter(f"{text!r} is no share from 0% to 100%; write 2% or 0.02 for two in a hundred.")
    return found
