"""Readers of files, and what must hold for every file: a result or the documented error, in little memory."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from export_scripts.errors import ExportError
from export_scripts.recordings import read_recordings
from nemo_triton import Tls, audio, audio_decoders
from nemo_triton.errors import AudioError, ManifestError, TlsError
from nemo_triton.loadtest.measure import LoadRun, Session
from nemo_triton.loadtest.recording import Recording, Response
from nemo_triton.loadtest.run_log import RunLog, RunLogError
from nemo_triton.loadtest.schedule import ClosedLoop
from nemo_triton.loadtest.server_counters import Counters
from nemo_triton.loadtest.server_metrics import Level, Usage
from nemo_triton.manifest import Utterance, find_audio, read_manifest
from nemo_triton.utterances import load_utterance
from verification.fuzz.files import audio_files, manifests, mutated_json_lines, pem_files, valid_audio

LARGEST_SAMPLES = 2**20
"""Limit of the audio reader during a check, so small that memory shows whether it is kept."""
MEMORY = 64 * 2**20
"""Bytes that a reader may allocate for these files."""
SECONDS = 20.0
"""A reader that takes longer hangs."""


class UnexpectedResult(AssertionError):
    """A reader did something other than it documents."""


@dataclass(frozen=True)
class Reader:
    """A reader and the files that it gets.

    Attributes:
        name: Name in tables.
        files: Strategy of a file's suffix and content.
        read: Reads the file. Raises `error`, or UnexpectedResult if the result is wrong.
        error: The documented exception.
    """

    name: str
    files: st.SearchStrategy[tuple[str, bytes]]
    read: Callable[[Path], None]
    error: type[Exception]

    def check(self, folder: Path, suffix: str, content: bytes) -> bool:
        """Read a file with this content.

        Returns:
            Whether the reader gave a result rather than the documented error.

        Raises:
            UnexpectedResult: The reader does something else.
        """
        path = folder / f"file.{suffix}"
        path.write_bytes(content)
        with _little_memory():
            try:
                self.read(path)
            except self.error as error:
                _check_line(str(error), path)
                return False
        return True


@contextmanager
def _little_memory() -> Iterator[None]:
    start = time.monotonic()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > MEMORY:
        raise UnexpectedResult(f"the reader allocated {peak / 2**20:.0f} MiB")
    if time.monotonic() - start > SECONDS:
        raise UnexpectedResult(f"the reader took {time.monotonic() - start:.0f} s")


def _check_line(message: str, path: Path) -> None:
    if not message.isprintable():
        raise UnexpectedResult(f"the error is not one printable line: {message!r}")
    if path.stem not in message:
        raise UnexpectedResult(f"the error does not name the file: {message!r}")


def _read_audio(path: Path) -> None:
    limit, audio_decoders.LARGEST_SAMPLES = audio_decoders.LARGEST_SAMPLES, LARGEST_SAMPLES
    try:
        samples = audio.load_audio(path)
    finally:
        audio_decoders.LARGEST_SAMPLES = limit
    if samples.dtype not in (np.int16, np.float32) or samples.ndim != 1 or len(samples) > LARGEST_SAMPLES:
        raise UnexpectedResult(f"samples are {samples.dtype} {samples.shape}")
    if not np.isfinite(samples).all():
        raise UnexpectedResult("samples are not finite")


def _read_manifest(path: Path) -> None:
    manifest = read_manifest(path)
    listed = find_audio([path])
    if (listed.utterances, listed.problems) != (manifest.utterances, manifest.problems):
        raise UnexpectedResult("find_audio lists something else than read_manifest")
    for problem in manifest.problems:
        _check_line(problem, path)
    for utterance in manifest.utterances:
        _check_utterance(utterance)


def _check_utterance(utterance: Utterance) -> None:
    duration = utterance.duration
    if duration is not None and not 0 <= duration < float("inf"):
        raise UnexpectedResult(f"duration is {duration}")
    # Names may hold bytes that are no text, as those of files do; texts are written as UTF-8.
    utterance.name.encode("utf-8", "surrogateescape")
    (utterance.text or "").encode()
    try:
        load_utterance(utterance)
    except AudioError as error:
        if not str(error).isprintable():
            raise UnexpectedResult(f"the error is not one printable line: {str(error)!r}") from error


def _read_recordings(path: Path) -> None:
    read_recordings(path)


_HEADER = {"bench": 1, "load list": ["2 in flight"]}
_LOAD = ClosedLoop(2)
_RECORDINGS = [Recording(Utterance(Path("a.wav"), "b"), np.zeros(160, np.int16))]


def _run_log_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run with two responses, a failed one and a session."""
    path = folder / "log.jsonl"
    path.unlink(missing_ok=True)
    log = RunLog.begin(path, _HEADER, _RECORDINGS)
    for number, error in enumerate([None, None, "failed"]):
        log.answer(_LOAD, Response(number=number, recording=0, text="b", due=0, sent=0, answered=1.5, error=error))
    level = Level(mean=1.0, highest=2.0)
    usage = Usage(samples=1, cpu=level, memory_bytes=level, gpus=())
    counters = Counters()
    session = Session(
        wall_seconds=2.0, counted_by_endpoint={"a:1": {"m": counters}}, usages={"u": usage}, client_cpu_seconds=(1.0,)
    )
    log.session(_LOAD, session)
    log.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def _read_run_log(path: Path) -> None:
    before = path.read_bytes()
    try:
        log, runs = RunLog.resume(path, _HEADER, _RECORDINGS, [_LOAD])
    except RunLogError:
        if path.read_bytes() != before:
            raise UnexpectedResult("the reader changed a file that it refused") from None
        raise
    log.close()
    for run in runs:
        _check_run(run)


def _check_run(run: LoadRun) -> None:
    for response in run.responses:
        if not (isinstance(response.text, str) and math.isfinite(response.latency)):
            raise UnexpectedResult(f"a response is {response}")
        if response.recording not in range(len(_RECORDINGS)):
            raise UnexpectedResult(f"a response is {response}")
    if not math.isfinite(run.wall_seconds):
        raise UnexpectedResult(f"sessions are {run.sessions}")


def _read_certificates(path: Path) -> None:
    Tls(ca=path, certificate=path, key=path)


def _with_suffix(content: st.SearchStrategy[bytes], *suffixes: str) -> st.SearchStrategy[tuple[str, bytes]]:
    return st.tuples(st.sampled_from(suffixes), content)


def readers(folder: Path) -> list[Reader]:
    """All readers. `folder` gets the recording that manifests name."""
    (folder / "a.wav").write_bytes(valid_audio("WAV", "PCM_16", 1))
    return [
        Reader("audio files", audio_files(), _read_audio, AudioError),
        Reader("manifests", _with_suffix(manifests(), "jsonl", "csv", "json"), _read_manifest, ManifestError),
        Reader("the export's recordings", _with_suffix(manifests(), "jsonl", "csv"), _read_recordings, ExportError),
        Reader(
            *("logs of bench.py --rows", _with_suffix(mutated_json_lines(_run_log_lines(folder)), "jsonl")),
            *(_read_run_log, RunLogError),
        ),
        Reader("certificates", _with_suffix(pem_files(), "pem"), _read_certificates, TlsError),
    ]
