"""Static checks of the Dockerfiles; `make image-proof` builds and runs two of them."""

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
    """Instructions as (name, arguments), with continued lines joined and without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (name, arguments)
        for name, _, arguments in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def final_stage(path: Path) -> list[tuple[str, str]]:
    lines = instructions(path)
    last_from = max(index for index, (name, _) in enumerate(lines) if name == "FROM")
    return lines[last_from:]


def test_there_are_four_images() -> None:
    assert NAMES == ["client", "export", "server-cpu", "server-gpu"]


def test_hadolint_finds_no_error() -> None:
    done = subprocess.run([BIN / "hadolint", *DOCKERFILES], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_finds_an_error(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && apt-get install curl\n")
    done = subprocess.run([BIN / "hadolint", bad], capture_output=True, text=True)
    assert done.returncode == 1 and "DL3006" in done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_base_images_have_versions(path: Path) -> None:
    lines = instructions(path)
    defaults = dict(arguments.split("=", 1) for name, arguments in lines if name == "ARG")
    bases = [
        re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], arguments.split(" ")[0])
        for name, arguments in lines
        if name == "FROM"
    ]
    assert len(bases) > 1
    for base in bases:
        assert re.search(r":[\d.]*\d\.\d", base), base


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_each_image_has_a_user_labels_and_a_health_check(path: Path) -> None:
    stage = final_stage(path)
    assert [arguments for name, arguments in stage if name == "USER"] == ["1000:1000"]
    labels = " ".join(arguments for name, arguments in stage if name == "LABEL")
    assert f'image.title="nemo-triton-{path.name.removesuffix(".Dockerfile")}"' in labels
    assert f"VERSION={tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}" in [
        arguments for name, arguments in stage if name == "ARG"
    ]
    checks = [arguments for name, arguments in stage if name == "HEALTHCHECK"]
    assert len(checks) == 1
    assert ('CMD ["triton_is", "ready"]' in checks[0]) == ("server" in path.name)
    json.loads(next(arguments for name, arguments in stage if name == "ENTRYPOINT"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_copied_paths_exist_and_are_not_ignored(path: Path) -> None:
    ignored, *exceptions = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert ignored == "*"
    allowed = [line.removeprefix("!") for line in exceptions if line.startswith("!")]
    for name, arguments in instructions(path):
        if name == "COPY" and "--from=" not in arguments:
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == included or source.startswith(f"{included}/") for included in allowed), source


@pytest.mark.parametrize("extra", ["client", "export"])
def test_images_install_the_requirements_of_pyproject(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    script: list[str | Path] = [sys.executable, DOCKER / "requirements.py", ROOT / "pyproject.toml", extra]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed == project["dependencies"] + project["optional-dependencies"][extra]


def test_makefile_and_image_use_the_same_torch() -> None:
    pinned = re.search(r"^TORCH \?= (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pinned and ("ARG", f"TORCH={pinned[1]}") in instructions(DOCKER / "export.Dockerfile")
