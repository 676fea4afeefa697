"""Refuse output files that would overwrite recordings, manifests or other files of the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import click

_STDOUT = Path("-")


def check_different(outputs: Mapping[str, Path | None]) -> None:
    """Refuse one file for two outputs.

    Args:
        outputs: The files by option; None and - are none.

    Raises:
        click.UsageError: Two are the same.
    """
    options: dict[Path, str] = {}
    for option, output in outputs.items():
        if output is None or output == _STDOUT:
            continue
        if (other := options.setdefault(output.resolve(), option)) != option:
            raise click.UsageError(f"{other} and {option} name the same file, {output}; name another")


def check_not_an_input(option: str, output: Path | None, inputs: Iterable[Path]) -> None:
    """Refuse an output file that is one of the inputs, also by another path or link.

    Args:
        option: Name of the option, for the message.
        output: The file that will be written; None and - are none.
        inputs: Files and folders that are read.

    Raises:
        click.UsageError: It is one of them.
    """
    target = _identity(output) if output and output != _STDOUT else None
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
    if output is None or output == _STDOUT or not output.is_file():
        return
    with suppress(OSError), output.open("rb") as file:
        content = file.read(len(start))
        if content and content != start.encode():
            raise click.UsageError(f"{option} {output} exists, and is no earlier result; name another file")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file; None if there is none."""
    # A name in a manifest may have a NUL, which raises ValueError.
    with suppress(OSError, ValueError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None
