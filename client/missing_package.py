"""The error line of a command whose packages are not installed."""

from __future__ import annotations

import sys


def report(missing: ModuleNotFoundError) -> int:
    """Print one line to stderr and return the exit code.

    A missing package usually means the wrong virtual environment, so a traceback would not help.
    """
    print(
        f"error: the module {missing.name} is not installed in this Python; activate the environment of server and "
        "client: . .venv/serve/bin/activate (see docs/install.md)",
        file=sys.stderr,
    )
    return 2
