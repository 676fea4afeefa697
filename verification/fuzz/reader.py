"""A reader of files, and what must hold for every input: a result or the documented error, in little memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck
from hypothesis import strategies as st

from verification.fuzz.inputs import NAME, Input

MEMORY = 64 * 2**20
"""Bytes that a reader may allocate for these files, in Python and in native libraries."""
SECONDS = 20.0
"""A reader that takes longer hangs."""


class UnexpectedResult(AssertionError):
    """A reader did something other than it documents."""


@dataclass(frozen=True)
class Reader:
    """A reader and the files that it gets.

    Attributes:
        name: Name in tables.
        inputs: Strategy of its inputs.
        read: Reads the path of an input. Raises `error`, or UnexpectedResult if the result is wrong.
        error: The documented exception.
    """

    name: str
    inputs: st.SearchStrategy[Input]
    read: Callable[[Path, Input], None]
    error: type[Exception]

    def check(self, folder: Path, read: Input) -> bool:
        """Read one input.

        Returns:
            Whether the reader gave a result rather than the documented error.

        Raises:
            UnexpectedResult: The reader does something else.
        """
        path = read.write(folder)
        with _little_memory():
            try:
                self.read(path, read)
            except self.error as error:
                check_line(str(error))
                return False
        return True


def check_line(message: str) -> None:
    """Check that an error is one line that names the file.

    Raises:
        UnexpectedResult: It isn't.
    """
    if not message.isprintable():
        raise UnexpectedResult(f"the error is not one printable line: {message!r}")
    if NAME not in message:
        raise UnexpectedResult(f"the error does not name the file: {message!r}")


@contextmanager
def _little_memory() -> Iterator[None]:
    start = time.monotonic()
    _forget_peak()
    before = _process_memory("VmRSS")
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    peak = max(peak, _process_memory("VmHWM") - before)
    if peak > MEMORY:
        raise UnexpectedResult(f"the reader allocated {peak / 2**20:.0f} MiB")
    if time.monotonic() - start > SECONDS:
        raise UnexpectedResult(f"the reader took {time.monotonic() - start:.0f} s")


def _forget_peak() -> None:
    """Let VmHWM, the peak of this process's memory, begin at its present memory.

    Source: proc_pid_clear_refs(5).
    """
    Path("/proc/self/clear_refs").write_text("5")


def _process_memory(name: str) -> int:
    """Bytes of this process, by its field in /proc/self/status."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split(maxsplit=1)[0]) * 1024


def examine(reader: Reader, folder: Path, *, seed: int, examples: int) -> tuple[int, int]:
    """Give mutated files to a reader.

    Args:
        reader: The reader.
        folder: Folder for the files.
        seed: Seed of the mutations.
        examples: Number of files.

    Returns:
        The number of files, and of these that the reader could read.

    Raises:
        Exception: What the reader raised, with the smallest file as a note.
    """
    counts = [0, 0]

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        # Of several failures, hypothesis would raise a group without their messages and files.
        report_multiple_bugs=False,
    )
    @hypothesis.given(reader.inputs)
    def check(read: Input) -> None:
        counts[0] += 1
        counts[1] += reader.check(folder, read)

    run: Callable[[], None] = check
    run()
    return counts[0], counts[1]
