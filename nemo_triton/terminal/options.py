"""What the commands share: options, how they run, the progress bar."""

from __future__ import annotations

import functools
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nemo_triton import endpoints
from nemo_triton.addresses import DEFAULT_URL
from nemo_triton.recognizer import DEFAULT_TIMEOUT
from nemo_triton.terminal.exit_codes import run_and_exit
from nemo_triton.tls import Tls

_WIDTH_WITHOUT_TERMINAL = 150

Command = TypeVar("Command", bound=Callable[..., Any])


def run(command: click.Command) -> NoReturn:
    """Run a command that returns its exit code; whatever the user can mend ends as one line on stderr and code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names need not be valid text; they are printed as the bytes that they are.
            stream.reconfigure(errors="surrogateescape")
    if logging.lastResort:
        logging.lastResort.setFormatter(_Line())
        logging.lastResort.setLevel(logging.INFO)
    # A user who saw that a server went away wants to know that it is back.
    logging.getLogger(endpoints.__name__).setLevel(logging.INFO)
    # Schedulers end a long run by SIGTERM; it keeps what it has, as with Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    run_and_exit(command)


class _Line(logging.Formatter):
    """A message behind its level, as errors are printed."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {super().format(record)}"


def url_option(command: Command) -> Command:
    """Add --url."""
    return click.option(
        "--url",
        default=DEFAULT_URL,
        show_default=True,
        metavar="HOST:PORT[,HOST:PORT...]",
        help="The server's gRPC endpoint; several servers, and all addresses of a host, share the requests.",
    )(command)


def connection_options(command: Command) -> Command:
    """Add --model, --url, --timeout and those of `tls_options`."""
    options = (
        click.option("--model", metavar="NAME", help="The recognizer to ask; needed where more than one is served."),
        url_option,
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=DEFAULT_TIMEOUT,
            show_default=True,
            metavar="SECONDS",
            help="The longest one request may take, its wait in the server's queue included.",
        ),
    )
    command = tls_options(command)
    for option in reversed(options):
        command = option(command)
    return command


def tls_options(command: Command) -> Command:
    """Add --tls, --ca, --certificate and --key, which the command gets as `tls`."""

    @functools.wraps(command)
    def with_tls(
        *arguments: Any, tls: bool, ca: Path | None, certificate: Path | None, key: Path | None, **more: Any
    ) -> Any:
        secured = tls or ca or certificate or key
        return command(*arguments, tls=Tls(ca, certificate, key) if secured else None, **more)

    file = click.Path(path_type=Path)
    options = (
        click.option("--tls", is_flag=True, help="Ask by TLS, of servers that the system's authorities vouch for."),
        click.option(
            "--ca", metavar="FILE", type=file, help="TLS, with the authority that signed the server's certificate."
        ),
        click.option(
            "--certificate", metavar="FILE", type=file, help="Shown to servers that ask for one (mTLS), with --key."
        ),
        click.option("--key", metavar="FILE", type=file, help="Of --certificate; all files are PEM."),
    )
    wrapped: Any = with_tls
    for option in reversed(options):
        wrapped = option(wrapped)
    return cast(Command, wrapped)


def concurrency_option(default: int) -> Callable[[Command], Command]:
    """Add --concurrency."""
    return click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        metavar="N",
        help="Requests in flight at once.",
    )


def number_list(
    each: Callable[[str, click.Parameter, click.Context], float],
) -> Callable[[click.Context, click.Parameter, str], tuple[float, ...]]:
    """An option's callback: different numbers with commas between them, each within a range; an empty text is none."""

    def convert(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
        parts = (part.strip() for part in text.split(","))
        numbers = tuple(each(part, parameter, context) for part in parts if part)
        if len(set(numbers)) < len(numbers):
            raise click.BadParameter(f"{text} has a number twice; each is measured once")
        return numbers

    return convert


def names(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    """An option's callback: names with commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


PathLike = TypeVar("PathLike", str, Path)


def check_output(context: click.Context, parameter: click.Parameter, path: PathLike | None) -> PathLike | None:
    """An option's callback: refuse a file that can't be written where it would be, before the work and not after it."""
    if path is not None:
        folder = Path(path).parent
        if not folder.is_dir():
            raise click.BadParameter(f"the folder of {path} does not exist; make it first")
        if not os.access(folder, os.W_OK):
            raise click.BadParameter(f"the folder of {path} can't be written; choose another")
    return path


def console(stderr: bool = False) -> Console:
    """For tables: as wide as the terminal, or wide enough for the longest model names where there is none."""
    wide = Console(stderr=stderr)
    if not wide.is_terminal:
        wide.width = _WIDTH_WITHOUT_TERMINAL
    return wide


def progress_bar(visible: bool = True) -> Progress:
    """A bar on stderr; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        # What goes to stdout must stay there: rich would send it through this console to stderr.
        redirect_stdout=False,
        disable=not (visible and console.is_terminal),
    )
