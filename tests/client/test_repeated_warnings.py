"""A terminal shows the first warnings of a kind and counts the others; a file gets them all."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT
from manifest_files import write, write_wav

pytestmark = pytest.mark.fast

LINES = 2000
PROGRAM = """
import click

from nemo_triton.errors import AudioError
from nemo_triton.manifest import find_audio
from nemo_triton.terminal import options
from nemo_triton.utterances import load_utterance


@click.command()
@click.argument("manifest")
def read(manifest):
    for utterance in find_audio([manifest]).utterances:
        load_utterance(utterance)
    raise AudioError("the end")


options.run(read)
"""
"""Reads all recordings of a manifest as the commands do, and ends with an error."""


def stderr_of(manifest: Path, *, terminal: bool) -> list[str]:
    """Lines on stderr of a command that reads all recordings."""
    command = [sys.executable, "-c", PROGRAM, str(manifest)]
    if not terminal:
        return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, check=False).stderr.splitlines()
    reader, writer = pty.openpty()
    with subprocess.Popen(command, stderr=writer):
        os.close(writer)
        content = b""
        try:
            while part := os.read(reader, 2**16):
                content += part
        except OSError:
            pass  # Linux ends a terminal's stream with EIO.
        finally:
            os.close(reader)
    return content.decode().splitlines()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest with a wrong duration in each line, and three files without samples."""
    folder = tmp_path_factory.mktemp("manifest")
    write_wav(folder / "a.wav")
    header = write_wav(folder / "empty.wav").read_bytes()[:44]
    (folder / "empty.wav").write_bytes(header[:40] + bytes(4))
    return write(folder / "m.csv", "filename,duration", *["empty.wav,"] * 3, *["a.wav,9"] * LINES)


def test_a_terminal_shows_the_first_warnings_of_each_kind(manifest: Path) -> None:
    lines = stderr_of(manifest, terminal=True)
    empty, wrong, (end, summary) = lines[:3], lines[3:-2], lines[-2:]
    assert all("empty.wav: has no samples; " in line for line in empty)
    assert len(wrong) == 5 and all("its duration in the manifest is 9 s" in line for line in wrong)
    assert end == "error: the end"
    assert summary == (
        "warning: 1,995 more warnings of files with another duration in the manifest; "
        "to get them all, redirect stderr to a file"
    )


def test_a_file_gets_all_warnings(manifest: Path) -> None:
    lines = stderr_of(manifest, terminal=False)
    assert len(lines) == LINES + 4 and lines[-1] == "error: the end"
    assert sum("its duration in the manifest is 9 s" in line for line in lines) == LINES


def test_a_closed_stderr_is_no_terminal() -> None:
    """As in daemons; Python has no sys.stderr then."""
    command = [sys.executable, str(ROOT / "client" / "transcribe.py"), "--help"]
    done = subprocess.run(["bash", "-c", '"$@" 2>&-', "bash", *command], capture_output=True, text=True)
    assert done.returncode == 0 and "--channel" in done.stdout
