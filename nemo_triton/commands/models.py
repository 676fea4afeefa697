"""The command that lists what a server recognizes speech with: `nemo-triton models`."""

from __future__ import annotations

from typing import NoReturn

import click

from nemo_triton.recognizer import list_recognizers
from nemo_triton.terminal import options as cli
from nemo_triton.tls import Tls


@click.command()
@cli.url_option
@cli.tls_options
def models(url: str, tls: Tls | None) -> int:
    """List the recognizers that a server has ready, one name per line."""
    for name in list_recognizers(url, tls):
        click.echo(name)
    return cli.EXIT_OK


def main() -> NoReturn:
    """Run the command and end this process with its exit code."""
    cli.run(models)


if __name__ == "__main__":
    main()
