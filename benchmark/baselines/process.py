"""Any system that answers line by line from a process of its own; worker.py says how."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from benchmark.baselines.errors import NotRun
from benchmark.baselines.recordings import by_length
from benchmark.baselines.system import OFFLINE_BATCH, Measured, System, mean_batch
from nemo_triton.errors import one_line
from nemo_triton.loadtest.recording import Recording

_SHOWN = 80
"""Characters of a line that is no answer."""


class Process(System):
    """A process that is given recordings when its block is entered, and takes them sorted by length.

    version: of its package, once it is ready
    """

    def __init__(self, name: str, command: Sequence[str], recordings: Sequence[Recording]) -> None:
        self.name = name
        self.command = list(command)
        self.files = [recording.utterance.name for recording in by_length(recordings)]
        self.version = ""
        self.batches = True

    def __enter__(self) -> Process:
        self.errors: IO[bytes] = tempfile.TemporaryFile()
        try:
            # A group of its own, to be ended with all that it started.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            self.errors.close()
            raise NotRun(f"{self.command[0]}: {error.strerror}; make this environment") from error
        try:
            ready = self._ask(json.dumps({"files": self.files}))
            self.version, self.batches = _field(ready, "ready", str), _field(ready, "batches", bool)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        # Closing its input flushes what it never took.
        with self.errors, suppress(BrokenPipeError), self.process:
            pass

    def measure(self, recordings: Sequence[Recording], at_once: int) -> Measured:
        """As System.measure; the recordings are those that the process has."""
        size = min(at_once, OFFLINE_BATCH)
        answer = self._ask(str(size))
        spent, texts = _field(answer, "seconds", float), _field(answer, "texts", list)
        if len(texts) != len(self.files):
            raise NotRun(f"its process answered with {len(texts)} texts for {len(self.files)} recordings")
        batch = mean_batch(len(self.files), size if self.batches else 1)
        return Measured(spent, dict(zip(self.files, texts, strict=True)), mean_batch=batch)

    def _ask(self, question: str) -> dict[str, Any]:
        """Raises NotRun for the reason that the process gives, or where it gives no answer at all."""
        assert self.process.stdin is not None and self.process.stdout is not None
        # Why the process is gone is told below.
        with suppress(BrokenPipeError):
            print(question, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise NotRun(f"its process ended with code {self.process.wait()}: {self._last_error()}")
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise NotRun(f"its process answered {line.strip()[:_SHOWN]!r}, which is no JSON object")
        if "reason" in answer:
            raise NotRun(one_line(answer["reason"]))
        return answer

    def _last_error(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return one_line(lines[-1]) if lines else "it said nothing"


def _field(answer: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = answer.get(name)
    if not isinstance(value, kind):
        raise NotRun(f"its process answered without {name} of type {kind.__name__}")
    return value


def baseline_command(python: Path, baseline: str, model: Path | None = None) -> list[str]:
    """The worker of the adapter `baseline`, by the Python of the environment that has its package."""
    command = [str(python), "-m", "benchmark.baselines.worker", baseline]
    return command if model is None else [*command, "--model", str(model)]
