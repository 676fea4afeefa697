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


def test_outputs_of_bench_are_different_files(run_command: Any, manifest: Path) -> None:
    path = manifest.with_name("new")
    done = run_command("bench", *URL, "--manifest", manifest, "--rows", path, "--json", path)
    assert done.returncode == 2 and not path.exists()
    assert f"--rows and --json name the same file, {path}; name another" in done.stderr


def test_transcribe_overwrites_no_list(run_command: Any, manifest: Path) -> None:
    """Kaldi's and LibriSpeech's lists are inputs, although only their folder is named."""
    folder = manifest.parent / "kaldi"
    folder.mkdir()
    (folder / "wav.scp").write_text("u1 ../a.wav\n")
    (folder / "text").write_text("u1 bear\n")
    speech = manifest.parent / "speech"
    speech.mkdir()
    write(speech / "1-2-0000.flac", tone(16_000), 16_000)
    (speech / "1-2.trans.txt").write_text("1-2-0000 BEAR\n")
    for path in (folder / "wav.scp", folder / "text", speech / "1-2.trans.txt"):
        before = path.read_bytes()
        done = run_command("transcribe", *URL, path.parent, "--output", path)
        assert done.returncode == 2 and f"--output {path} is one of the inputs" in done.stderr
        assert path.read_bytes() == before


def test_a_name_that_is_no_path_costs_its_line(run_command: Any, manifest: Path) -> None:
    manifest.write_text('{"audio_filepath": "a\\u0000.wav"}\n{"audio_filepath": "a.wav"}\n')
    listed = manifest.rename(manifest.with_suffix(".jsonl"))
    output = manifest.with_name("out.txt")
    output.touch()
    done = run_command("transcribe", *URL, listed, "--output", output)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "nowhere.invalid:1" in done.stderr


@pytest.mark.parametrize("name", ["manifest.csv", "link.csv", "a.wav", "hard.wav"])
def test_transcribe_overwrites_no_input(run_command: Any, manifest: Path, name: str) -> None:
    output = manifest.with_name(name)
    before = output.read_bytes()
    done = run_command("transcribe", *URL, manifest, "--output", output)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--output {output} is one of the inputs and would be overwritten; name another file" in done.stderr
    assert output.read_bytes() == before
