"""Find the model repositories in the command's arguments, and refuse paths that Triton can't start models from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from server.python_library import LaunchError

_OPTIONS = ("--model-repository", "--model-store")
_SPECIAL = re.compile(r"[\s\"'\\$`&|;<>()*?\[\]{}#~!]")
"""Characters of a path that a shell does not take as they are."""


def local_repositories(arguments: Sequence[str]) -> list[Path]:
    """The repositories that are folders of this machine, as the arguments write them."""
    values = []
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in _OPTIONS:
            values.append(value if equals else "".join(arguments[index + 1 : index + 2]))
    return [Path(value) for value in values if "://" not in value]


def check_paths(paths: Iterable[Path]) -> None:
    """Refuse paths with characters that are special to a shell.

    Triton's Python backend starts each model by a shell command and does not quote its paths. The models' processes end
    immediately, and Triton waits for them for ever.

    Raises:
        LaunchError: A path has such a character.
    """
    for path in paths:
        special = _SPECIAL.search(str(path))
        if special:
            shown = "a space" if special[0].isspace() else special[0]
            raise LaunchError(f"{path}: Triton can't start models from a path with {shown}; rename the folder")
