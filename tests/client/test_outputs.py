"""Output files that name a recording, a manifest, or another file of the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from audio_signals import tone
from soundfile import write

pytestmark = pytest.mark.fast

URL = ("--url", "nowhere.invalid:1")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    write(tmp_path / "a.wav", tone(16_000), 16_000)
    path = tmp_path / "manifest.csv"
    path.write_text("filename,transcript\na.wav,bear\n")
    (tmp_path / "link.csv").symlink_to(path)
    (tmp_path / "hard.wav").hardlink_to(tmp_path / "a.wav")
    return path


@pytest.mark.parametrize("option", ["--csv", "--json"])
@pytest.mark.parametrize("name", ["manifest.csv", "link.csv", "a.wav", "hard.wav"])
def test_bench_overwrites_no_input(run_command: Any, manifest: Path, option: str, name: str) -> None:
    output = manifest.with_name(name)
    before = output.read_bytes()
    done = run_command("bench", *URL, "--manifest", manifest, option, output)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{option} {output} is one of the inputs and would be overwritten; name another file" in done.stderr
    assert output.read_bytes() == before


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_bench_overwrites_no_other_file(run_command: Any, manifest: Path, option: str) -> None:
    """The manifest's option is --manifest; --csv FILE names the results."""
    before = manifest.read_bytes()
    done = run_command("bench", *URL, option, manifest)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{option} {manifest} exists, and is no earlier result; name another file" in done.stderr
    assert manifest.read_bytes() == before


@pytest.mark.parametrize("name", ["manifest.csv", "link.csv", "a.wav", "hard.wav"])
def test_transcribe_overwrites_no_input(run_command: Any, manifest: Path, name: str) -> None:
    output = manifest.with_name(name)
    before = output.read_bytes()
    done = run_command("transcribe", *URL, manifest, "--output", output)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--output {output} is one of the inputs and would be overwritten; name another file" in done.stderr
    assert output.read_bytes() == before
