"""The command `nemo-triton`, which the package installs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from bench_files import Spoken
from click.testing import CliRunner
from locations import ROOT

import nemo_triton
from nemo_triton.commands.bench import bench
from nemo_triton.commands.transcribe import transcribe


def run(*arguments: object, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command's entry point in a Python without the packages `blocked`."""
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); "
    program += "sys.argv[0] = 'nemo-triton'; from nemo_triton.commands.main import main; main()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_help_lists_the_commands() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for line in ("  bench ", "  models ", "  transcribe "):
        assert f"\n{line}" in done.stdout


@pytest.mark.parametrize("name", ["bench", "models", "transcribe"])
def test_each_command_has_help(name: str) -> None:
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"nemo-triton {name} [OPTIONS]" in done.stdout and "--url" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.fast
@pytest.mark.parametrize("command", [bench, transcribe])
def test_help_lists_each_option_once_and_names_a_section_for_it(command: click.Command) -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    sections, _, other = text.partition("Other options:")
    for option in command.params:
        if isinstance(option, click.Option):
            listed = re.findall(rf"^  {option.opts[0]}\b(?!-)", sections, re.MULTILINE)
            assert len(listed) == 1, f"{option.opts[0]} is missing in the sections of {command.name}"
    assert "--help" in other


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"nemo-triton, version {nemo_triton.__version__}\n"


def test_models_are_listed(triton: Any) -> None:
    done = run("models", "--url", triton.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{triton.model}\n", "")


def test_the_command_transcribes_like_the_script(triton: Any, run_command: Any, spoken: Spoken) -> None:
    arguments = ("transcribe", spoken[0][0], "--url", triton.url)
    done, script = run(*arguments), run_command(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, script.stdout, "")


def test_an_unknown_command_is_one_line() -> None:
    done = run("transcript")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No such command 'transcript'") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [(), ("--help",), ("--url", "localhost:1")])
def test_a_missing_package_is_one_line_that_names_the_extra(triton: Any, options: tuple[str, ...]) -> None:
    done = run("bench", *options, blocked=("jiwer",))
    assert (done.returncode, done.stdout) == (2, "")
    problem = "nemo-triton bench: the module jiwer is not installed; run pip install 'nemo-triton[client]'"
    assert done.stderr == f"error: {problem}\n"
    others = run("models", "--url", triton.url, blocked=("jiwer", "prometheus_client"))
    assert (others.returncode, others.stdout) == (0, f"{triton.model}\n")


def test_help_works_without_the_packages_of_one_command() -> None:
    done = run("--help", blocked=("jiwer",))
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 and "  transcribe " in done.stdout and "nemo-triton[client]" in done.stdout


def test_an_absent_server_is_one_line(absent_url: str, tmp_path: Path) -> None:
    done = run("models", "--url", absent_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and absent_url in done.stderr and done.stderr.count("\n") == 1
