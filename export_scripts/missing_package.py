"""The error line of a command that runs in a Python without the packages it needs."""

from __future__ import annotations

import sys


def report(missing: ModuleNotFoundError) -> int:
    """Print one line to stderr and return the exit code.

    A missing package usually means the wrong virtual environment. Say so instead of printing a traceback.
    """
    print(
        f"error: no module {missing.name} in this Python; activate the environment for exports with "
        "`. .venv/export/bin/activate` (docs/install.md)",
        file=sys.stderr,
    )
    return 2
