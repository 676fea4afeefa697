"""Publishing is all or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export_scripts.errors import ExportError
from export_scripts.repository.publish import publishing

pytestmark = pytest.mark.fast


def add(folder: Path, name: str, content: str) -> None:
    (folder / name).mkdir()
    (folder / name / "config.pbtxt").write_text(content)


def contents(repository: Path) -> dict[str, str]:
    return {file.parent.name: file.read_text() for file in sorted(repository.rglob("config.pbtxt"))}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two models; an export replaces one of them."""
    folder = tmp_path / "repository"
    with publishing(folder) as new:
        add(new, "kept", "old")
        add(new, "replaced", "old")
    return folder


def assert_unchanged(repository: Path) -> None:
    assert contents(repository) == {"kept": "old", "replaced": "old"}
    assert [path.name for path in repository.parent.iterdir()] == [repository.name], "no work folder is left"


def test_new_models_are_added_and_old_ones_replaced(repository: Path) -> None:
    with publishing(repository) as new:
        add(new, "replaced", "new")
        add(new, "added", "new")
    assert contents(repository) == {"added": "new", "kept": "old", "replaced": "new"}
    assert [path.name for path in repository.parent.iterdir()] == [repository.name]


@pytest.mark.parametrize("failure", [ExportError("no"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_publishes_nothing(repository: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)), publishing(repository) as new:
        add(new, "replaced", "new")
        raise failure
    assert_unchanged(repository)


def test_a_failure_leaves_no_empty_repository(tmp_path: Path) -> None:
    with pytest.raises(ExportError), publishing(tmp_path / "a" / "repository"):
        raise ExportError("no")
    assert not (tmp_path / "a" / "repository").exists()


@pytest.mark.parametrize("renames", range(4))
def test_a_rename_that_fails_is_undone(repository: Path, renames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename fails during the publication, which a test can't provoke on a real disk."""
    rename, done = Path.rename, 0

    def failing(self: Path, target: Path) -> Path:
        nonlocal done
        done += 1
        if done == renames + 1 and renames < 3:
            raise OSError(5, "Input/output error", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    if renames == 3:
        with publishing(repository) as new:
            add(new, "added", "new")
            add(new, "replaced", "new")
        assert contents(repository) == {"added": "new", "kept": "old", "replaced": "new"}
        return
    with pytest.raises(ExportError, match="Input/output error; nothing was published"), publishing(repository) as new:
        add(new, "added", "new")
        add(new, "replaced", "new")
    assert_unchanged(repository)


KILLED = """
import os, signal, sys
from pathlib import Path
from export_scripts.repository.publish import publishing
rename, done = Path.rename, 0
def rename_or_die(self, target):
    global done
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    return rename(self, target)
Path.rename = rename_or_die
with publishing(Path(sys.argv[1])) as new:
    for name in ("added", "replaced"):
        (new / name).mkdir()
        (new / name / "config.pbtxt").write_text("new")
"""


@pytest.mark.parametrize("renames", range(3))
def test_the_next_export_cleans_up_after_a_killed_one(repository: Path, renames: int) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, repository, str(renames)])
    assert killed.returncode == -signal.SIGKILL
    with publishing(repository) as new:
        assert contents(repository) == {"kept": "old", "replaced": "old"}
        add(new, "third", "new")
    assert contents(repository) == {"kept": "old", "replaced": "old", "third": "new"}
    assert [path.name for path in repository.parent.iterdir()] == [repository.name]


@pytest.mark.parametrize("published", range(3))
@pytest.mark.parametrize("put_back", range(3))
def test_the_next_export_completes_a_killed_recovery(repository: Path, published: int, put_back: int) -> None:
    subprocess.run([sys.executable, "-c", KILLED, repository, str(published)])
    subprocess.run([sys.executable, "-c", KILLED, repository, str(put_back)])
    with publishing(repository):
        assert contents(repository) == {"kept": "old", "replaced": "old"}
    assert_unchanged(repository)


def test_models_that_cannot_be_restored_are_kept(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a broken disk, publishing fails and can't be undone."""
    rename, done = Path.rename, 0

    def failing(self: Path, target: Path) -> Path:
        nonlocal done
        done += 1
        if done > 2:
            raise OSError(5, "Input/output error", str(self))
        return rename(self, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", failing)
        with pytest.raises(ExportError), publishing(repository) as new:
            add(new, "added", "new")
            add(new, "replaced", "new")
    with publishing(repository):
        assert contents(repository) == {"kept": "old", "replaced": "old"}
    assert_unchanged(repository)


def test_concurrent_exports_do_not_touch_each_others_work(repository: Path) -> None:
    with publishing(repository) as first:
        add(first, "one", "new")
        with publishing(repository) as second:
            add(second, "two", "new")
    assert contents(repository) == {"kept": "old", "one": "new", "replaced": "old", "two": "new"}


def test_a_failed_export_does_not_take_the_repository_from_a_concurrent_one(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    failing = publishing(repository)
    failing.__enter__()
    with publishing(repository) as new:
        failing.__exit__(ExportError, ExportError("differs"), None)
        assert not repository.exists()
        add(new, "kept", "new")
    assert contents(repository) == {"kept": "new"}


def test_ctrl_c_while_publishing_waits_for_its_end(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), publishing(repository) as new:
        add(new, "added", "new")
        add(new, "replaced", "new")
    assert contents(repository) == {"added": "new", "kept": "old", "replaced": "new"}
