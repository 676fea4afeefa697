"""The error line of a command that is run by a Python without the packages that it needs."""

from __future__ import annotations

import sys


def report(missing: ModuleNotFoundError) -> int:
    """Print one line to stderr and return the exit code.

    A missing package usually means the wrong virtual environment. Say so instead of printing a traceback.
    """
    print(
        f"error: there is no module {missing.name} in this Python; activate the environment for exports: "
        ". .venv/export/bin/activate (see README.md, Install)",
        file=sys.stderr,
    )
    return 2
