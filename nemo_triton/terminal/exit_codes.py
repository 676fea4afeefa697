"""How a command ends: its exit code, and one line on stderr for what the user can mend. Needs no Triton client."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from nemo_triton.errors import ClientError, one_line

EXIT_OK = 0
EXIT_PROBLEM = 2
EXIT_INTERRUPTED = 130


def run_and_exit(command: click.Command, errors: tuple[type[Exception], ...] = (ClientError,)) -> NoReturn:
    """Run a command that returns its exit code, and end this process with it.

    Args:
        command: of click
        errors: whose message is all that the user needs: it becomes one line on stderr and EXIT_PROBLEM, as a wrong
            option and an OSError do
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
    """Print one line on stderr."""
    # print, not click.echo, which goes round the stderr that a progress bar puts in place to keep itself whole.
    print(f"error: {one_line(message)}", file=sys.stderr, flush=True)
