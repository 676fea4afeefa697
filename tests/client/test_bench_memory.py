"""Memory of bench.py on a long manifest that names few files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench_files import Spoken, write_manifest
from locations import ROOT
from waiting import wait_until

from verification.bench_memory import is_flat


@pytest.mark.fast
def test_memory_that_holds_the_audio_of_each_line_is_not_flat() -> None:
    # Measured on the version that held it.
    held = [
        {"lines": 200, "reading_bytes": 352_600_064, "sending_bytes": 360_726_528},
        {"lines": 2000, "reading_bytes": 2_370_768_896, "sending_bytes": 2_377_768_960},
    ]
    assert not is_flat(held)
    assert is_flat([{**result, "reading_bytes": 150_000_000, "sending_bytes": 160_000_000} for result in held])


@pytest.mark.parametrize("flags", ["", "--processes 2"])
def test_memory_does_not_depend_on_the_number_of_lines(repository: Path, triton: Any, flags: str) -> None:
    lines = ("--lines", "20,2000", "--requests", "4", "--bench", f"--concurrency 2 --warmup 0 {flags}")
    command = [sys.executable, "-m", "verification.bench_memory", triton.model, "--repository", str(repository), *lines]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    few, many = map(json.loads, done.stdout.splitlines())
    assert (few["lines"], few["answered"], many["lines"], many["answered"]) == (20, 4, 2000, 4)
    assert many["sending_bytes"] < 2000 * 35 * 32000 / 4, "a quarter of the audio"


def files_in(folder: Path, process: psutil.Process) -> list[str]:
    """Open files of a process in a folder, also those without a name."""
    opened = []
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            opened.append(str(link.readlink()))
    return [path for path in opened if path.startswith(str(folder))]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_leaves_no_file_and_no_process(
    triton: Any, spoken: Spoken, tmp_path: Path, processes: int
) -> None:
    folder, rows = tmp_path / "tmp", tmp_path / "rows.jsonl"
    folder.mkdir()
    manifest = write_manifest(tmp_path / "m.jsonl", spoken)
    command = [sys.executable, str(ROOT / "client" / "bench.py"), "--url", triton.url, "--manifest", str(manifest)]
    flags = ["--duration", "600", "--processes", str(processes), "--rows", str(rows), "--metrics-url", triton.metrics]
    process = subprocess.Popen(
        [*command, *flags], env={**os.environ, "TMPDIR": str(folder)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_until(lambda: rows.exists() and rows.read_bytes().count(b"\n") > 10)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    opened = [path for member in family for path in files_in(folder, member)]
    assert len(opened) == (1 if processes == 1 else 1 + processes), "the spool, in each process that reads it"
    assert list(folder.iterdir()) == [], "and it has no name"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not any(member.is_running() for member in family))
