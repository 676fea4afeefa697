"""Fixtures for the commands and for servers that are not there."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from locations import ROOT

Command: TypeAlias = Callable[..., "subprocess.Popen[str]"]
Finished: TypeAlias = "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="session")
def start_command() -> Command:
    """Start `python client/<name>.py` as a user does from a checkout, its output piped."""

    def start(name: str, *arguments: object) -> subprocess.Popen[str]:
        script = ROOT / "client" / f"{name}.py"
        command = [sys.executable, str(script), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="session")
def run_command(start_command: Command) -> Callable[..., Finished]:
    """Run a command to its end."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        process = start_command(name, *arguments)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


@pytest.fixture
def absent_url() -> str:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def spoken(demo_manifest: Path) -> list[tuple[Path, str]]:
    """The audio files and texts of the demo's manifest, read without the code under test."""
    entries = [json.loads(line) for line in demo_manifest.read_text().splitlines()]
    return [(demo_manifest.parent / entry["audio_filepath"], entry["text"]) for entry in entries]
