"""What the commands for a bare machine share. nemo_triton.terminal.options does the same with Triton's client."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

import click

from export_scripts.errors import ExportError
from nemo_triton.errors import ClientError, one_line

EXIT_OK = 0
EXIT_DIFFERENT = 1
EXIT_PROBLEM = 2
EXIT_INTERRUPTED = 130


def run(command: click.Command) -> NoReturn:
    """Run a command that returns its exit code; an error is one line on stderr and exit code 2.

    Stdout is flushed after each line, so that a killed run has printed what it measured.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        sys.exit(command.main(standalone_mode=False))
    except click.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        print_error(error.format_message())
    except (ClientError, ExportError) as error:
        print_error(error)
    except OSError as error:
        print_error(f"{error.filename}: {error.strerror}" if error.filename else error)
    sys.exit(EXIT_PROBLEM)


def print_error(message: object) -> None:
    """Print one line on stderr."""
    print(f"error: {one_line(message)}", file=sys.stderr, flush=True)


def describe(error: Exception) -> str:
    """One line for an error: its message if it is one of ours, else its class too, cut to 300 characters."""
    if isinstance(error, (ClientError, ExportError)):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)[:300]}"
