"""Complete an environment for serving: `python -m server.install`, after `pip install -e '.[server,client]'`.

It installs Python's shared library if that is missing and this user may install packages, assembles Triton's backends,
and writes the command `tritonserver` into this environment. The command is not an entry point of the package, because
environments with the client only would get a command that can't run.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from server.launch import assemble_backends, backend_folder, find_triton
from server.python_library import LaunchError, install_python_library

ROOT = Path(__file__).parent.parent

COMMAND = """#!{python}
# Written by python -m server.install.
import sys

sys.path.insert(0, {root!r})

from server.launch import main

main()
"""


def main() -> None:
    """Complete the environment. If the user has to add something, print one line to stderr and exit with code 2."""
    try:
        install_python_library()
        triton = find_triton()
        assemble_backends(triton, backend_folder(triton))
        write_command(Path(sysconfig.get_path("scripts")) / "tritonserver")
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def write_command(file: Path) -> None:
    """Write the command as `file`.

    Raises:
        LaunchError: The file is another tritonserver, or can't be written.
    """
    try:
        if file.exists() and b"server.launch" not in file.read_bytes():
            raise LaunchError(f"{file}: another tritonserver is installed here; use a separate virtual environment")
        file.write_text(COMMAND.format(python=sys.executable, root=str(ROOT)))
        file.chmod(0o755)
    except OSError as error:
        raise LaunchError(f"{file}: can't be written: {error.strerror}; check the path and its permissions") from error


if __name__ == "__main__":
    main()
