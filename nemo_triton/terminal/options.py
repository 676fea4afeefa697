"""Options, help texts and progress bars that the commands share."""

from __future__ import annotations

import functools
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar, cast

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nemo_triton.addresses import DEFAULT_URL
from nemo_triton.endpoint_pool import LOG_NAME
from nemo_triton.recognizer import DEFAULT_TIMEOUT
from nemo_triton.terminal.exit_codes import run_and_exit
from nemo_triton.terminal.repeated_warnings import merged_warnings
from nemo_triton.tls import Tls

_WIDTH_WITHOUT_TERMINAL = 150
_HELP_COLUMN = 26
"""Widest column of option names in help texts; longer names get a separate line."""

Command = TypeVar("Command", bound=Callable[..., Any])


def run(command: click.Command) -> NoReturn:
    """Run a command and exit with the code that it returns; errors of the user are one line on stderr and code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names may be invalid UTF-8; print their bytes unchanged.
            stream.reconfigure(errors="surrogateescape")
    if logging.lastResort:
        logging.lastResort.setFormatter(_Line())
        logging.lastResort.setLevel(logging.INFO)
    # A user who saw that a server went down wants to see that it is back.
    logging.getLogger(LOG_NAME).setLevel(logging.INFO)
    _end_by_sigterm()
    with merged_warnings():
        run_and_exit(command)


def _end_by_sigterm() -> None:
    """Keep the results so far when a scheduler ends the job with SIGTERM, as with Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A background job of a shell script. Ctrl-C must not end it, but SIGTERM must, by the handler of SIGINT.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, interrupt)


class _Line(logging.Formatter):
    """A formatter that writes log messages like error lines, for example "warning: ..."."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {super().format(record)}"


class SectionedCommand(click.Command):
    """A command whose help lists its options in sections, the most used first.

    Args:
        sections: Names of the command's parameters by the title of their section, in the order of the help. Options
            that are not named follow under "Other options".
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, Sequence[str]], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        parameters = {option.name: option for option in self.get_params(ctx) if isinstance(option, click.Option)}
        named = {name for names in self._sections.values() for name in names}
        other = [name for name in parameters if name not in named]
        for title, names in {**self._sections, "Other options": other}.items():
            records = [record for name in names if (record := parameters[name].get_help_record(ctx))]
            with formatter.section(title):
                formatter.write_dl(records, col_max=_HELP_COLUMN)


def url_option(command: Command) -> Command:
    """Add --url."""
    return click.option(
        "--url",
        default=DEFAULT_URL,
        show_default=True,
        metavar="HOST:PORT[,HOST:PORT...]",
        help="gRPC address of the server. Requests are shared among several servers and among all addresses of a host.",
    )(command)


def connection_options(command: Command) -> Command:
    """Add --model, --url, --timeout and those of `tls_options`."""
    options = (
        click.option("--model", metavar="NAME", help="Recognizer to use. Needed if the server has more than one."),
        url_option,
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=DEFAULT_TIMEOUT,
            show_default=True,
            metavar="SECONDS",
            help="Deadline of one request, including its time in the server's queue. Raise it for long audio or a busy "
            "server.",
        ),
    )
    command = tls_options(command)
    for option in reversed(options):
        command = option(command)
    return command


def tls_options(command: Command) -> Command:
    """Add --tls, --ca, --certificate and --key; the command gets them as one argument `tls`."""

    @functools.wraps(command)
    def with_tls(
        *arguments: Any, tls: bool, ca: Path | None, certificate: Path | None, key: Path | None, **more: Any
    ) -> Any:
        uses_tls = tls or ca or certificate or key
        return command(*arguments, tls=Tls(ca, certificate, key) if uses_tls else None, **more)

    file = click.Path(path_type=Path)
    options = (
        click.option("--tls", is_flag=True, help="Use TLS and verify the server with the system's CA certificates."),
        click.option(
            "--ca", metavar="FILE", type=file, help="Use TLS and verify the server with this CA certificate (PEM)."
        ),
        click.option(
            "--certificate", metavar="FILE", type=file, help="Client certificate (PEM) for servers with mutual TLS."
        ),
        click.option("--key", metavar="FILE", type=file, help="Private key (PEM) of --certificate."),
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
        help="Number of concurrent requests.",
    )


def number_list(
    each: Callable[[str, click.Parameter, click.Context], float],
) -> Callable[[click.Context, click.Parameter, str], tuple[float, ...]]:
    """Callback of an option: comma-separated numbers, all different, each within a range."""

    def convert(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
        parts = (part.strip() for part in text.split(","))
        try:
            numbers = tuple(each(part, parameter, context) for part in parts if part)
        except click.BadParameter as error:
            raise click.BadParameter(f"{error.message.rstrip('.')}; write numbers such as 1,4,16") from error
        if len(set(numbers)) < len(numbers):
            raise click.BadParameter(f"{text} has a number twice; give each once")
        return numbers

    return convert


def names(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    """Callback of an option: comma-separated names."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


PathLike = TypeVar("PathLike", str, Path)


def check_output(context: click.Context, parameter: click.Parameter, path: PathLike | None) -> PathLike | None:
    """Callback of an option: reject an output file that can't be written, before the work starts."""
    if path is not None:
        folder = Path(path).parent
        if not folder.is_dir():
            raise click.BadParameter(f"the folder of {path} does not exist; create it first")
        if not os.access(folder, os.W_OK):
            raise click.BadParameter(f"the folder of {path} is not writable; choose another")
    return path


def console(stderr: bool = False) -> Console:
    """Console for tables: as wide as the terminal, or 150 columns if the output is not a terminal."""
    table_console = Console(stderr=stderr)
    if not table_console.is_terminal:
        table_console.width = _WIDTH_WITHOUT_TERMINAL
    return table_console


def progress_bar(visible: bool = True) -> Progress:
    """Progress bar on stderr; hidden if stderr is not a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        # Otherwise rich would redirect stdout to this console, which prints to stderr.
        redirect_stdout=False,
        disable=not (visible and console.is_terminal),
    )
