"""The shared library of this Python, which Triton's Python backend loads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from ctypes.util import find_library
from pathlib import Path


class LaunchError(Exception):
    """Why the server can't run here, and what would mend it."""


def python_version() -> str:
    """Major and minor version, as in the library's name."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def python_library_folder() -> Path | None:
    """Where this Python's shared library is, which Triton's Python backend loads; None if the system finds it."""
    name = f"libpython{python_version()}.so.1.0"
    # A Python that was moved after it was built has its library elsewhere than it was configured for.
    for folder in (Path(sysconfig.get_config_var("LIBDIR") or ""), Path(sys.base_prefix) / "lib"):
        if (folder / name).exists():
            return folder
    if find_library(f"python{python_version()}"):
        return None
    raise LaunchError(
        f"{name} is not installed, which Triton's Python backend needs: "
        f"apt-get install libpython{python_version()}, or use a Python built with --enable-shared"
    )


def install_python_library() -> None:
    """Make sure that it is there: by Debian's package, where that is in this user's power. Raises LaunchError."""
    try:
        python_library_folder()
    except LaunchError:
        if os.geteuid() == 0 and shutil.which("apt-get") is not None:
            subprocess.run(["apt-get", "update", "-qq"])
            subprocess.run(["apt-get", "install", "-y", "-qq", f"libpython{python_version()}"])
        python_library_folder()
