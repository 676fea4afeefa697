"""What the commands for a bare machine share, where there is no client of Triton's."""

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
    """Run a command that returns its exit code; an error is one line on stderr and exit code 2.

    Stdout is flushed after each line, so that a killed run has printed what it measured.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    run_and_exit(command, _ERRORS)


def describe(error: Exception) -> str:
    """One line for an error: its message if it is one of ours, else its class too, cut to 300 characters."""
    if isinstance(error, _ERRORS):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)[:300]}"
