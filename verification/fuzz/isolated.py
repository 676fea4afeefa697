"""Check readers in a process of their own, because a fault in a native decoder can end or stop its process."""

from __future__ import annotations

import faulthandler
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

from verification.fuzz.inputs import NAME, Input
from verification.fuzz.reader import SECONDS, Reader, UnexpectedResult, examine

_LOG = "stderr.txt"


class IsolatedReader:
    """A reader in another process, for use in a `with` block.

    Args:
        build: Function of a module that returns the reader for a folder.
        folder: Folder for its files.
        findings: Folder that gets the files with which the process ended.
        hang_seconds: Seconds after which a check is stopped.
    """

    def __init__(
        self, build: Callable[[Path], Reader], folder: Path, findings: Path, *, hang_seconds: float = 3 * SECONDS
    ) -> None:
        self._build, self._folder, self._findings, self._hang_seconds = build, folder, findings, hang_seconds
        self._pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))

    def examine(self, *, seed: int, examples: int) -> tuple[int, int, str]:
        """Give mutated files to the reader.

        Returns:
            The number of files, of these that the reader could read, and what is wrong, empty if nothing.
        """
        try:
            return self._pool.submit(
                _examine, self._build, self._folder, self._hang_seconds, seed=seed, examples=examples
            ).result()
        except BrokenProcessPool:
            kept = self._findings / f"{self._folder.name}_seed_{seed}"
            shutil.copytree(self._folder, kept, dirs_exist_ok=True)
            log = (kept / _LOG).read_text(errors="replace")[:2000]
            return 0, 0, f"its process ended or hung; {kept} has the file ({NAME}*) and this log:\n{log}"

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown()


def _examine(
    build: Callable[[Path], Reader], folder: Path, hang_seconds: float, *, seed: int, examples: int
) -> tuple[int, int, str]:
    reader = _watched_reader(build, folder, hang_seconds)
    try:
        return *examine(reader, folder, seed=seed, examples=examples), ""
    except Exception as error:  # Whatever a reader raises is the result.
        notes = "\n".join(getattr(error, "__notes__", ()))
        return 0, 0, f"{type(error).__name__}: {error}\n{notes}"


@cache
def _watched_reader(build: Callable[[Path], Reader], folder: Path, hang_seconds: float) -> Reader:
    log = os.open(folder / _LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    faulthandler.enable()
    reader = build(folder)
    return replace(reader, read=_watched(reader.read, log, hang_seconds))


def _watched(read: Callable[[Path, Input], None], log: int, hang_seconds: float) -> Callable[[Path, Input], None]:
    """End this process if a file takes too long, and refuse tracebacks that libraries print."""

    def watch(path: Path, given: Input) -> None:
        os.ftruncate(log, 0)
        faulthandler.dump_traceback_later(hang_seconds, exit=True)
        try:
            read(path, given)
        finally:
            faulthandler.cancel_dump_traceback_later()
            printed = os.pread(log, 2**20, 0)
            if b"Traceback" in printed:
                raise UnexpectedResult(f"printed: {printed.decode(errors='replace')[:2000]}")

    return watch
