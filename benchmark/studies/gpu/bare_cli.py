"""Shared by the commands for a bare machine, which has no tritonclient."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

import click

from export_scripts.errors import ExportError
from nemo_triton.errors import ClientError, one_line
from nemo_triton.terminal.exit_codes import run_and_exit

EXIT_DIFFERENT = 1
_ERRORS = (ClientError, ExportError)


def run(command: click.Command) -> NoReturn:
    """Run a command and exit with the code it returns. An error is one line on stderr and exit code 2.

    Stdout is flushed after each line, so that a killed run has printed its measurements.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    run_and_exit(command, _ERRORS)


def describe(error: Exception) -> str:
    """Describe an error in one line: the message of this project's errors, else class and (shortened) message."""
    if isinstance(error, _ERRORS):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)[:300]}"
