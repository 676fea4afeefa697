"""Run the export command, in a new process or in this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

from click.testing import CliRunner, Result
from locations import ROOT

from export_scripts.export import main


def run_export(*arguments: object, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the export in a new process. With a `home`, that folder's caches are empty and there is no network."""
    environment = dict(os.environ)
    if home is not None:
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        environment["HOME"] = str(home)
    command = [sys.executable, "export_scripts/export.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def invoke_export(*arguments: object) -> Result:
    """Run the export in this process, where all tests share one import of NeMo."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            return CliRunner().invoke(main, [str(argument) for argument in arguments])
    finally:
        signal.signal(signal.SIGTERM, handler)
