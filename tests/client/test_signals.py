"""SIGTERM ends a command like Ctrl-C, also one that a shell script started in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from locations import ROOT

pytestmark = pytest.mark.fast

PROGRAM = """
import asyncio

import click

from nemo_triton.terminal import options


async def wait_long():
    print("ready", flush=True)
    try:
        await asyncio.sleep(600)
    finally:
        print("results so far", flush=True)


@click.command()
def wait():
    asyncio.run(wait_long())


options.run(wait)
"""


@contextmanager
def waiting(*, ignore: bool) -> Iterator[subprocess.Popen[str]]:
    """A command that waits, with Ctrl-C ignored when it started as shells do for background jobs, or not."""
    program = f"import os, signal, sys\nsignal.signal(signal.SIGINT, signal.{'SIG_IGN' if ignore else 'SIG_DFL'})\n"
    program += "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    command = [sys.executable, "-c", program, PROGRAM]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("ignore", [True, False])
def test_sigterm_ends_a_command(ignore: bool) -> None:
    with waiting(ignore=ignore) as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "results so far\n")


def test_control_c_does_not_end_a_background_job() -> None:
    with waiting(ignore=True) as process:
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "results so far\n")
