"""Find or install the shared library of this Python, which Triton's Python backend loads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from ctypes.util import find_library
from pathlib import Path


class LaunchError(Exception):
    """The server can't run here; the message says why and what to do."""


def python_version() -> str:
    """Major and minor version, as in the library's name: 3.11."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def python_library_folder() -> Path | None:
    """Find the folder of this Python's shared library.

    Returns:
        The folder, or None if the system's loader finds the library by itself.

    Raises:
        LaunchError: The library is not installed.
    """
    name = f"libpython{python_version()}.so.1.0"
    # A Python that was moved after its build has its library in another place than LIBDIR.
    for folder in (Path(sysconfig.get_config_var("LIBDIR") or ""), Path(sys.base_prefix) / "lib"):
        if (folder / name).exists():
            return folder
    if find_library(f"python{python_version()}"):
        return None
    raise LaunchError(
        f"{name} is missing, which Triton's Python backend needs; "
        f"apt-get install libpython{python_version()}, or use a Python built with --enable-shared"
    )


def install_python_library() -> None:
    """Install the shared library with apt-get if it is missing and this user is root.

    Raises:
        LaunchError: The library is still missing.
    """
    try:
        python_library_folder()
    except LaunchError:
        if os.geteuid() == 0 and shutil.which("apt-get") is not None:
            subprocess.run(["apt-get", "update", "-qq"])
            subprocess.run(["apt-get", "install", "-y", "-qq", f"libpython{python_version()}"])
        python_library_folder()
