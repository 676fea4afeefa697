"""Refuse output files that would overwrite recordings, manifests or other files of the user."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click


def check_not_an_input(option: str, output: Path | None, inputs: Iterable[Path]) -> None:
    """Refuse an output file that is one of the inputs, also by another path or link.

    Args:
        option: Name of the option, for the message.
        output: The file that will be written; None and - are none.
        inputs: Files and folders that are read.

    Raises:
        click.UsageError: It is one of them.
    """
    target = _identity(output) if output else None
    if target is not None and any(_identity(path) == target for path in set(inputs)):
        raise click.UsageError(f"{option} {output} is one of the inputs and would be overwritten; name another file")


def check_is_result(option: str, output: Path | None, start: str) -> None:
    """Refuse to overwrite a file that an earlier run did not write.

    Args:
        option: Name of the option, for the message.
        output: The file that will be written; None and - are none.
        start: First characters of every such file.

    Raises:
        click.UsageError: The file exists and has another content.
    """
    if output is None or not output.is_file():
        return
    with suppress(OSError):
        content = output.open("rb").read(len(start))
        if content and content != start.encode():
            raise click.UsageError(f"{option} {output} exists, and is no earlier result; name another file")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file; None if there is none."""
    with suppress(OSError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None
