"""A system in a separate process. benchmark/baselines/worker.py describes the lines that it reads and writes."""

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
from benchmark.core.processes import how_it_ended
from nemo_triton.errors import one_line
from nemo_triton.loadtest.recording import Recording
from nemo_triton.manifest import Utterance

_SHOWN = 80
"""Characters shown of an invalid answer."""


def _as_json(utterance: Utterance) -> dict[str, Any]:
    """The fields that select an utterance's audio."""
    return {
        "audio": str(utterance.audio),
        "offset": utterance.offset,
        "duration": utterance.duration,
        "channel": utterance.channel,
    }


class Process(System):
    """A separate process that loads the recordings when its block is entered, and batches them sorted by length.

    Attributes:
        name: Name in tables.
        command: Command line that starts the process.
        utterances: The recordings, sorted by length.
        version: Package and version, known once the block is entered.
        batches: Whether it can transcribe several recordings in one batch.
    """

    def __init__(self, name: str, command: Sequence[str], recordings: Sequence[Recording]) -> None:
        self.name = name
        self.command = list(command)
        self.utterances = [recording.utterance for recording in by_length(recordings)]
        self.version = ""
        self.batches = True

    def __enter__(self) -> Process:
        self.errors: IO[bytes] = tempfile.TemporaryFile()
        try:
            # A separate process group, so that its children are ended too.
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
            raise NotRun(f"{self.command[0]}: {error.strerror}; create this environment") from error
        try:
            ready = self._request(json.dumps({"recordings": [_as_json(each) for each in self.utterances]}))
            self.version, self.batches = _field(ready, "ready", str), _field(ready, "batches", bool)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        # Closing stdin flushes what the process never read.
        with self.errors, suppress(BrokenPipeError), self.process:
            pass

    def measure(self, recordings: Sequence[Recording], concurrency: int) -> Measured:
        """See System.measure. The process already has the recordings."""
        size = min(concurrency, OFFLINE_BATCH)
        answer = self._request(str(size))
        spent, texts = _field(answer, "seconds", float), _field(answer, "texts", list)
        if len(texts) != len(self.utterances):
            raise NotRun(f"its process answered with {len(texts)} texts for {len(self.utterances)} recordings")
        batch = mean_batch(len(texts), size if self.batches else 1)
        names = (utterance.name for utterance in self.utterances)
        return Measured(spent, dict(zip(names, texts, strict=True)), mean_batch=batch)

    def _request(self, line: str) -> dict[str, Any]:
        """Send a line and read the answer.

        Raises:
            NotRun: The process reports a reason, or sends no valid answer.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        # If the process has ended, reading its answer below reports why.
        with suppress(BrokenPipeError):
            print(line, file=self.process.stdin, flush=True)
        answer_line = self.process.stdout.readline()
        if not answer_line:
            code = self.process.wait()
            self.errors.seek(0)
            raise NotRun(f"its process {how_it_ended(code, self.errors.read().decode(errors='replace'))}")
        try:
            answer = json.loads(answer_line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise NotRun(f"its process answered {answer_line.strip()[:_SHOWN]!r}, which is not a JSON object")
        if "reason" in answer:
            raise NotRun(one_line(answer["reason"]))
        return answer


def _field(answer: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = answer.get(name)
    if not isinstance(value, kind):
        raise NotRun(f"its process answered without {name} of type {kind.__name__}")
    return value


def baseline_command(python: Path, baseline: str, model: Path | None = None) -> list[str]:
    """Command that runs the worker of an adapter, with the Python of the environment that has its package."""
    command = [str(python), "-m", "benchmark.baselines.worker", baseline]
    return command if model is None else [*command, "--model", str(model)]
