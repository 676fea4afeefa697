"""The command `nemo-triton`, which the package installs."""

from __future__ import annotations

from importlib import import_module
from typing import NoReturn

import click

from nemo_triton import __version__
from nemo_triton.errors import ClientError
from nemo_triton.terminal import options

_COMMANDS = ("bench", "models", "transcribe")
_INSTALL = "pip install 'nemo-triton[client]'"


class _Commands(click.Group):
    """A group that imports each command on use, because bench needs packages that the others don't."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        try:
            command: click.Command = getattr(import_module(f"nemo_triton.commands.{cmd_name}"), cmd_name)
        except ModuleNotFoundError as missing:
            return _unavailable(cmd_name, missing)
        return command


def _unavailable(name: str, missing: ModuleNotFoundError) -> click.Command:
    """Return a replacement for a command whose packages are missing, which only reports what to install."""

    @click.command(
        name,
        short_help=f"Needs {_INSTALL}",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def unavailable() -> None:
        raise ClientError(f"nemo-triton {name}: the module {missing.name} is not installed; run {_INSTALL}")

    return unavailable


@click.command(cls=_Commands)
@click.version_option(__version__, prog_name="nemo-triton")
def nemo_triton() -> None:
    """Transcribe speech with NeMo recognizers on Triton, and measure them."""


def main() -> NoReturn:
    """Run the command and end this process with its exit code."""
    options.run(nemo_triton)
