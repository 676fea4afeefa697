"""The command `nemo-triton models`, which lists the recognizers of a server."""

from __future__ import annotations

from typing import NoReturn

import click

from nemo_triton.recognizer import list_recognizers
from nemo_triton.terminal import exit_codes, options
from nemo_triton.tls import Tls


@click.command(short_help="List the recognizers of a server.")
@options.url_option
@options.tls_options
def models(url: str, tls: Tls | None) -> int:
    """List the recognizers that are ready on a server, one name per line."""
    for name in list_recognizers(url, tls):
        click.echo(name)
    return exit_codes.EXIT_OK


def main() -> NoReturn:
    """Run the command and end this process with its exit code."""
    options.run(models)


if __name__ == "__main__":
    main()
