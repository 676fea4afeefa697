"""Exit codes and error lines of the commands. This module does not import Triton's client."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from nemo_triton.errors import ClientError, one_line

EXIT_OK = 0
EXIT_PROBLEM = 2
EXIT_INTERRUPTED = 130


def run_and_exit(command: click.Command, errors: tuple[type[Exception], ...] = (ClientError,)) -> NoReturn:
    """Run a command and end this process with the exit code that it returns.

    Args:
        command: A click command.
        errors: Errors that end as one line on stderr and EXIT_PROBLEM, as wrong options and OSErrors do. Others end
            with a traceback.
    """
    try:
        sys.exit(command.main(standalone_mode=False))
    except click.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        print_error(error.format_message())
    except errors as error:
        print_error(error)
    except OSError as error:
        print_error(f"{error.filename}: {error.strerror}" if error.filename else error)
    sys.exit(EXIT_PROBLEM)


def print_error(message: object) -> None:
    """Print one line on stderr, after "error: "."""
    _print_line("error", message)


def print_warning(message: object) -> None:
    """Print one line on stderr, after "warning: "."""
    _print_line("warning", message)


def _print_line(level: str, message: object) -> None:
    # Not click.echo: it bypasses the stderr of rich's progress bar, and the line would break the bar.
    print(f"{level}: {one_line(message)}", file=sys.stderr, flush=True)
