"""Lays models out in a model repository: all of them or none, whatever interrupts."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import onnx
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.errors import ExportError
from export_scripts.repository.config import write_config

JOURNAL = "published.json"


@contextmanager
def publishing(repository: Path) -> Iterator[Path]:
    """A folder for new models, which enter the repository together when the block ends well.

    A model of the same name is replaced. Where the block or the publishing fails, or is interrupted,
    the repository is as it was; what a killed export left half published is put back by the next.

    Raises:
        ExportError: where the repository can't be written.
    """
    existed = repository.exists()
    try:
        repository.mkdir(parents=True, exist_ok=True)
        place, prefix = _workplace(repository)
        with ExitStack() as held:
            with _locked(repository):
                _recover(repository, place, prefix)
                work = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
                held.enter_context(_locked(work))
            held.callback(_clean, work, repository, existed)
            (work / "new").mkdir()
            (work / "old").mkdir()
            yield work / "new"
            with _locked(repository):
                _publish(repository, work)
    except OSError as error:
        if error.errno is None:
            raise
        raise ExportError(f"{error.filename or repository}: {error.strerror}; nothing was published") from error


def write_model(folder: Path, config: triton.ModelConfig, graph: onnx.ModelProto | None) -> None:
    """Write one model as `folder`/`config.name`; an ensemble has no graph."""
    version = folder / config.name / "1"
    version.mkdir(parents=True)
    if graph is not None:
        (version / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    write_config(folder / config.name, config)


def _publish(repository: Path, work: Path) -> None:
    names = sorted(path.name for path in (work / "new").iterdir())
    with _signals_held():
        (work / JOURNAL).write_text(json.dumps(names))
        try:
            for name in names:
                if (repository / name).exists():
                    (repository / name).rename(work / "old" / name)
                (work / "new" / name).rename(repository / name)
        except OSError:
            _undo(repository, work)
            raise
        (work / JOURNAL).unlink()


def _undo(repository: Path, work: Path) -> None:
    """Take back a publication that did not end well. Each step is a rename, so this can be killed and done again."""
    names: list[str] = json.loads((work / JOURNAL).read_text())
    for name in names:
        if not (work / "new" / name).exists():
            (repository / name).rename(work / "new" / name)
        if (work / "old" / name).exists():
            (work / "old" / name).rename(repository / name)
    (work / JOURNAL).unlink()


def _clean(work: Path, repository: Path, existed: bool) -> None:
    """Remove the work, unless it holds what could not be put back yet, and a repository made for nothing."""
    if not (work / JOURNAL).exists():
        shutil.rmtree(work, ignore_errors=True)
    if not existed and not any(repository.iterdir()):
        repository.rmdir()


def _workplace(repository: Path) -> tuple[Path, str]:
    """Where work in progress is kept, and how its folders' names begin.

    Only on the repository's own file system is a rename atomic. Beside the repository is better than
    inside, where a server that starts meanwhile would take the work for a model without versions.
    """
    beside = repository.resolve().parent
    if beside.stat().st_dev == repository.stat().st_dev and os.access(beside, os.W_OK):
        return beside, f".{repository.resolve().name}.export-"
    return repository, ".export-"


def _recover(repository: Path, place: Path, prefix: str) -> None:
    """Put right what killed exports have left; one that still lives holds the lock of its work."""
    for work in place.glob(f"{prefix}*"):
        try:
            with _locked(work, wait=False):
                if (work / JOURNAL).exists():
                    _undo(repository, work)
                shutil.rmtree(work)
        except (BlockingIOError, FileNotFoundError):
            continue


@contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Keep other exports out of a folder.

    Raises:
        BlockingIOError: where another has it and `wait` is false.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C and termination wait until the block has ended."""
    pending: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        pending.append(number)

    held = {int(number): signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        for number in pending:
            signal.raise_signal(number)
