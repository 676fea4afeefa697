"""Hostile checkpoints are refused in one line each, before NeMo is imported or anything is written."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from hostile_checkpoints import ATTACKS, CANARY, Hostile, RunsCommand, archive_of, weights
from locations import ROOT
from snapshots import snapshot

PAGE = ROOT / "docs" / "security.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the attacks, and a module that leaves a canary when it is imported, also in place of NeMo."""
    folder = tmp_path_factory.mktemp("hostile")
    for module in (CANARY, "nemo"):
        (folder / "modules").mkdir(exist_ok=True)
        (folder / "modules" / f"{module}.py").write_text(f"open({CANARY!r}, 'w').close()\nclass Joint: pass\n")
    for name in ("home", "temporary", "checkpoints"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def lines(folder: Path) -> dict[str, str]:
    """The line of each attack. All are exported by one command."""
    paths: list[Path] = []
    for number, hostile in enumerate(ATTACKS):
        path = folder / "checkpoints" / str(number) / hostile.name
        path.parent.mkdir()
        path.write_bytes(hostile.content())
        paths.append(path)
    arguments = [ROOT / "export_scripts" / "export.py", *paths, "--repository", folder / "repository"]
    command = [sys.executable, *map(str, arguments)]
    variables = {"PYTHONPATH": f"{folder / 'modules'}:{ROOT}", "TMPDIR": str(folder / "temporary")}
    before = snapshot(folder / "checkpoints")
    done = subprocess.run(
        command, cwd=folder / "home", env=os.environ | variables, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert snapshot(folder / "checkpoints") == before
    errors = done.stderr.splitlines()
    assert len(errors) == len(ATTACKS)
    return {
        hostile.attack: line.removeprefix(f"error: {path}: ")
        for hostile, path, line in zip(ATTACKS, paths, errors, strict=True)
    }


@pytest.mark.parametrize("hostile", ATTACKS, ids=[hostile.attack for hostile in ATTACKS])
def test_an_attack_costs_one_line(hostile: Hostile, lines: dict[str, str]) -> None:
    assert lines[hostile.attack] == hostile.complaint


@pytest.mark.usefixtures("lines")
def test_no_attack_ran_or_wrote(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "home", "modules", "temporary"]
    assert [list((folder / name).iterdir()) for name in ("home", "temporary")] == [[], []]
    assert not list(folder.rglob(CANARY))
    assert not Path("/", CANARY).exists()


def test_the_attacks_are_real(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checks, the payloads leave their canaries."""
    monkeypatch.chdir(tmp_path)
    canary = tmp_path / CANARY
    torch.load(io.BytesIO(weights(RunsCommand())), weights_only=False)
    assert canary.exists()
    canary.unlink()
    pickle.loads(pickle.dumps(RunsCommand(), protocol=4))
    assert canary.exists()
    canary.unlink()
    subprocess.run([sys.executable, "-c", "import nemo"], env={"PYTHONPATH": str(folder / "modules")}, check=True)
    assert canary.exists()
    canary.unlink()
    (tmp_path / "inside").mkdir()
    with tarfile.open(fileobj=io.BytesIO(archive_of({}, (f"../{CANARY}",)))) as archive:
        archive.extractall(tmp_path / "inside", filter="fully_trusted")
    assert canary.exists()


def test_the_page_has_each_attack_and_its_line() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    cells = [tuple(cell.strip() for cell in row.strip("|").split(" | ")) for row in rows]
    assert [row for row in cells if len(row) == 2 and row[0] in {hostile.attack for hostile in ATTACKS}] == [
        (hostile.attack, f"`{hostile.complaint}`") for hostile in ATTACKS
    ]
