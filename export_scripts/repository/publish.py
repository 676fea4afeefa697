"""Publish models in a model repository: all or none, even if interrupted."""

from __future__ import annotations

import errno
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
from export_scripts.operators.weights import write_graph
from export_scripts.repository.config import write_config

JOURNAL = "published.json"


@contextmanager
def publishing(repository: Path) -> Iterator[Path]:
    """A temporary folder for new models, which are moved into the repository together when the block ends.

    Models of the same names are replaced. If the block or the move fails or is interrupted, the repository stays
    unchanged. If an export is killed during the move, the next one restores the repository.

    Raises:
        ExportError: The repository can't be written.
    """
    existed = repository.exists()
    if existed and not repository.is_dir():
        raise ExportError(f"{repository}: is a file; give a folder, the model repository to write")
    try:
        repository.mkdir(parents=True, exist_ok=True)
        place, prefix = _workplace(repository)
        with ExitStack() as cleanup:
            with _locked(repository):
                _recover(repository, place, prefix)
                work = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
                cleanup.enter_context(_locked(work))
            cleanup.callback(_clean, work, repository, existed)
            (work / "new").mkdir()
            (work / "old").mkdir()
            yield work / "new"
            # A concurrent export that created the repository and failed removed it again.
            repository.mkdir(parents=True, exist_ok=True)
            with _locked(repository):
                _publish(repository, work)
    except OSError as error:
        if error.errno is None:
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError(
                f"{error.filename or repository}: {error.strerror}; free some there and in {tempfile.gettempdir()} "
                "(TMPDIR); nothing was published"
            ) from error
        raise ExportError(f"{error.filename or repository}: {error.strerror}; nothing was published") from error


def write_model(folder: Path, config: triton.ModelConfig, graph: onnx.ModelProto | None) -> None:
    """Write one model as `folder`/`config.name`; an ensemble has no graph."""
    version = folder / config.name / "1"
    version.mkdir(parents=True)
    if graph is not None:
        write_graph(graph, version / "model.onnx")
    write_config(folder / config.name, config)


def check_space(repository: Path, folder: Path, weight_bytes: int) -> None:
    """Refuse an export whose weights don't fit the disk: PyTorch's exporter may not notice a full one.

    Args:
        repository: Model repository, which the error names.
        folder: Folder for new models, on the same disk.
        weight_bytes: Size of the encoder's float32 weights.

    Raises:
        ExportError: There is no space for the traced weights and those that the server reads.
    """
    needed, free = 2 * weight_bytes, shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(
            f"{repository}: no space left: the export writes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "free some or export to another disk"
        )


def _publish(repository: Path, work: Path) -> None:
    names = sorted(path.name for path in (work / "new").iterdir())
    with _signals_deferred():
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
    """Undo a partial publication. Each step is a rename, so this can be killed and repeated."""
    names: list[str] = json.loads((work / JOURNAL).read_text())
    for name in names:
        if not (work / "new" / name).exists():
            (repository / name).rename(work / "new" / name)
        if (work / "old" / name).exists():
            (work / "old" / name).rename(repository / name)
    (work / JOURNAL).unlink()


def _clean(work: Path, repository: Path, existed: bool) -> None:
    """Remove the work folder, unless it has models to restore, and the repository if it is new and empty."""
    if not (work / JOURNAL).exists():
        shutil.rmtree(work, ignore_errors=True)
    if not existed and not any(repository.iterdir()):
        repository.rmdir()


def _workplace(repository: Path) -> tuple[Path, str]:
    """Folder for work in progress, and the prefix of its subfolders.

    Renames are atomic on the repository's file system only. The parent folder is better than the repository, where a
    server that starts meanwhile would see a model without versions.
    """
    parent = repository.resolve().parent
    if parent.stat().st_dev == repository.stat().st_dev and os.access(parent, os.W_OK):
        return parent, f".{repository.resolve().name}.export-"
    return repository, ".export-"


def _recover(repository: Path, place: Path, prefix: str) -> None:
    """Clean up after killed exports. A running export holds the lock of its work folder."""
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
    """Lock a folder against other exports.

    Raises:
        BlockingIOError: Another export has the lock, and `wait` is false.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Defer Ctrl-C and termination until the block has ended."""
    pending: list[int] = []

    def defer(number: int, frame: FrameType | None) -> None:
        pending.append(number)

    handlers = {int(number): signal.signal(number, defer) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in pending:
            signal.raise_signal(number)
