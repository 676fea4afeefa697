"""The Dockerfiles, as far as reading them goes; `make image-proof` builds and runs two of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
from deployment import BIN, DOCKER
from locations import ROOT

DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
NAMES = [path.name.removesuffix(".Dockerfile") for path in DOCKERFILES]


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, its arguments) of each, lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def final_stage(path: Path) -> list[tuple[str, str]]:
    everything = instructions(path)
    last = max(index for index, (name, _) in enumerate(everything) if name == "FROM")
    return everything[last:]


def test_there_are_four() -> None:
    assert NAMES == ["client", "export", "server-cpu", "server-gpu"]


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([BIN / "hadolint", *DOCKERFILES], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && apt-get install curl\n")
    done = subprocess.run([BIN / "hadolint", bad], capture_output=True, text=True)
    assert done.returncode == 1 and "DL3006" in done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_bases_have_versions(path: Path) -> None:
    everything = instructions(path)
    defaults = dict(rest.split("=", 1) for name, rest in everything if name == "ARG")
    bases = [
        re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], rest.split(" ")[0])
        for name, rest in everything
        if name == "FROM"
    ]
    assert len(bases) > 1
    for base in bases:
        assert re.search(r":[\d.]*\d\.\d", base), base


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_each_runs_as_another_user_than_root_says_what_it_is_and_whether_it_is_well(path: Path) -> None:
    stage = final_stage(path)
    assert [rest for name, rest in stage if name == "USER"] == ["1000:1000"]
    labels = " ".join(rest for name, rest in stage if name == "LABEL")
    assert f'image.title="nemo-triton-{path.name.removesuffix(".Dockerfile")}"' in labels
    assert f"VERSION={tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}" in [
        rest for name, rest in stage if name == "ARG"
    ]
    checks = [rest for name, rest in stage if name == "HEALTHCHECK"]
    assert len(checks) == 1
    assert ('CMD ["triton_is", "ready"]' in checks[0]) == ("server" in path.name)
    json.loads(next(rest for name, rest in stage if name == "ENTRYPOINT"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_what_is_copied_is_there_and_not_ignored(path: Path) -> None:
    ignored, *let_in = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    assert ignored == "*"
    allowed = [line.removeprefix("!") for line in let_in if line.startswith("!")]
    for name, rest in instructions(path):
        if name == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == included or source.startswith(f"{included}/") for included in allowed), source


@pytest.mark.parametrize("extra", ["client", "export"])
def test_requirements_of_an_image_are_the_projects(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    script: list[str | Path] = [sys.executable, DOCKER / "requirements.py", ROOT / "pyproject.toml", extra]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed == project["dependencies"] + project["optional-dependencies"][extra]


def test_versions_of_torch_are_one() -> None:
    pinned = re.search(r"^TORCH \?= (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pinned and ("ARG", f"TORCH={pinned[1]}") in instructions(DOCKER / "export.Dockerfile")
