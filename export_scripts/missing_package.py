"""The error line of a command that runs in a Python without the packages it needs."""

from __future__ import annotations

import sys


def report(missing: ModuleNotFoundError) -> int:
    """Print one line to stderr and return the exit code.

    A missing package usually means the wrong virtual environment. Say so instead of printing a traceback.
    """
    print(
        f"error: the module {missing.name} is not installed in this Python; activate the environment for exports: "
        ". .venv/export/bin/activate (see docs/install.md)",
        file=sys.stderr,
    )
    return 2
