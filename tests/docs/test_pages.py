"""Pages link to what exists, and their commands are real: programs, options, quoting."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from itertools import dropwhile
from pathlib import Path

import pytest
from locations import ROOT
from pages import Block, Command, blocks, commands, pages

from benchmark.core import missing_package

README_LINES = 150
PACKAGES = ("benchmark", "export_scripts", "nemo_triton", "server", "verification")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)|(?:src|srcset)=\"(?P<source>[^\"]+)\"")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
SHELL_BLOCKS = [block for block in blocks() if block.language == "sh"]
PYTHON = re.compile(r"(?:\S+=\S* )*python3? (?P<program>-m [\w.]+|[\w./]+\.py)")


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    words = re.sub(r"[`*]|\]\(.*?\)", "", heading).lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


@pytest.mark.fast
@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for match in _LINK.finditer(text):
        target, _, section = (match["target"] or match["source"]).partition("#")
        if re.match(r"\w+:", target):
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (
            section and section not in map(anchor, _HEADING.findall(file.read_text(encoding="utf-8")))
        ):
            broken.append(match[0])
    assert not broken


@pytest.mark.fast
def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@pytest.mark.fast
def test_every_page_is_linked_from_readme_or_another_page() -> None:
    texts = {page: page.read_text(encoding="utf-8") for page in pages()}
    unlinked = [
        page.name
        for page in texts
        if page.parent == ROOT / "docs" and not any(page.name in text for other, text in texts.items() if other != page)
    ]
    assert not unlinked


@pytest.mark.fast
@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=str)
def test_shell_blocks_parse(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.fast
@pytest.mark.parametrize("command", commands(), ids=str)
def test_zsh_takes_the_command_as_bash_does(command: Command) -> None:
    """Unlike bash, zsh fails on patterns that match no file, and takes no comments in an interactive shell."""
    unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", command.text)
    assert not re.search(r"(?<![$\\])[*?\[\]]", unquoted), "quote the pattern"
    assert not re.search(r"\s#", unquoted), "move the comment into the text before the block"


@pytest.mark.fast
def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    named = {match for page in pages() for match in re.findall(r"`make ([a-z][a-z0-9-]*)", page.read_text("utf-8"))}
    named |= {match for command in commands() for match in re.findall(r"(?:^|&& )make ([a-z][a-z0-9-]*)", command.text)}
    assert named <= targets


@pytest.mark.fast
def test_named_files_exist() -> None:
    """Programs in commands are files of the project or modules of it."""
    missing = []
    for command in commands():
        for match in PYTHON.finditer(command.text):
            program = match["program"]
            if program.startswith("-m "):
                path = ROOT / Path(*program[3:].split("."))
                if (ROOT / path.relative_to(ROOT).parts[0]).is_dir() and not (
                    path.with_suffix(".py").exists() or (path / "__main__.py").exists()
                ):
                    missing.append(str(command))
            elif not program.startswith("build/") and not (ROOT / program).exists():
                missing.append(str(command))
    assert not missing


@cache
def _help(program: tuple[str, ...]) -> str:
    done = subprocess.run([*program, "--help"], cwd=ROOT, capture_output=True, text=True)
    shown = done.stdout + done.stderr
    # tritonserver exits with 1 after its help.
    assert "usage:" in shown.lower(), shown
    return shown


def _parts(command: str) -> list[list[str]]:
    """Split a command line into the words of each program's call."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _programs(command: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """Return the project's programs in a command line, each with the options given to it."""
    calls = []
    for part in _parts(command):
        words = list(dropwhile(lambda word: re.fullmatch(r"\w+=.*", word), part))
        match words:
            case ["tritonserver", *options]:
                program = [".venv/serve/bin/tritonserver"]
            case ["nemo-triton", name, *options]:
                program = [".venv/serve/bin/nemo-triton", name]
            case [python, "-m", module, *options] if python.endswith("python") and module.split(".")[0] in PACKAGES:
                program = [f"{_environment(module)}/bin/python", "-m", module]
            case ["python", script, *options] if (ROOT / script).is_file():
                program = [f"{_environment(script)}/bin/python", script]
            case _:
                continue
        calls.append((tuple(program), [option.partition("=")[0] for option in options if option.startswith("--")]))
    return calls


def _environment(program: str) -> str:
    exports = (
        program.startswith(("export_scripts/", "verification.full_size"))
        or missing_package.ENVIRONMENTS.get(program) == missing_package.EXPORT
    )
    return ".venv/export" if exports else ".venv/serve"


@pytest.mark.parametrize("command", commands(), ids=str)
def test_options_exist(command: Command) -> None:
    for program, options in _programs(command.text):
        shown = _help(program) if options else ""
        missing = [option for option in options if not re.search(rf"{re.escape(option)}\b", shown)]
        assert not missing, f"{' '.join(program)} has no {', '.join(missing)}"
