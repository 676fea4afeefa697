"""The readers of files: audio, manifests, run logs and certificates, and what is right for each."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from export_scripts.errors import ExportError
from export_scripts.recordings import read_recordings
from nemo_triton import Tls, audio
from nemo_triton.audio_decoders import limits
from nemo_triton.errors import AudioError, ManifestError, TlsError
from nemo_triton.loadtest.measure import LoadRun, Session
from nemo_triton.loadtest.recording import Recording, Response
from nemo_triton.loadtest.run_log import RunLog, RunLogError
from nemo_triton.loadtest.schedule import ClosedLoop
from nemo_triton.loadtest.server_counters import Counters
from nemo_triton.loadtest.server_metrics import Level, Usage
from nemo_triton.manifest import Manifest, Utterance, find_audio, read_manifest
from nemo_triton.utterances import load_utterance
from verification.fuzz.audio_files import audio_inputs, valid_audio
from verification.fuzz.files import mutated_json_lines, pem_files
from verification.fuzz.inputs import Input
from verification.fuzz.manifest_files import Expected, manifest_inputs
from verification.fuzz.manifest_lines import RECORDING
from verification.fuzz.reader import Reader, UnexpectedResult, check_line

LARGEST_SAMPLES = 2**20
"""Limit of the audio reader during a check, so small that memory shows whether it is kept."""


def _read_audio(path: Path, read: Input) -> None:
    limit, limits.LARGEST_SAMPLES = limits.LARGEST_SAMPLES, LARGEST_SAMPLES
    try:
        _check_samples(audio.load_audio(path, **read.arguments))
        segment = {name: value for name, value in read.arguments.items() if name != "channel"}
        for samples in audio.load_channels(path, **segment):
            _check_samples(samples)
    finally:
        limits.LARGEST_SAMPLES = limit


def _check_samples(samples: audio.Samples) -> None:
    if samples.dtype not in (np.int16, np.float32) or samples.ndim != 1 or len(samples) > LARGEST_SAMPLES:
        raise UnexpectedResult(f"samples are {samples.dtype} {samples.shape}")
    if not np.isfinite(samples).all():
        raise UnexpectedResult("samples are not finite")


def _read_manifest(path: Path, read: Input) -> None:
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        if read.expected and read.expected.good:
            raise UnexpectedResult(f"good lines are refused: {error}") from error
        raise
    listed = find_audio([path])
    if (listed.utterances, listed.problems) != (manifest.utterances, manifest.problems):
        raise UnexpectedResult("find_audio lists something else than read_manifest")
    for problem in manifest.problems:
        check_line(problem)
    for utterance in manifest.utterances:
        _check_utterance(utterance)
    if read.expected:
        _check_expected(manifest, read.expected)


def _check_expected(manifest: Manifest, expected: Expected) -> None:
    listed = {(utterance.line, utterance.audio.name, utterance.text) for utterance in manifest.utterances}
    for line, good in expected.good.items():
        if (line, Path(good.audio).name, good.text) not in listed:
            raise UnexpectedResult(f"the good line {line} is not listed")
    if expected.lines is None:
        return
    problems = [re.search(r":(\d+): ", problem) for problem in manifest.problems]
    named = [utterance.line for utterance in manifest.utterances] + [int(match[1]) for match in problems if match]
    if sorted(named) != sorted(expected.lines):
        raise UnexpectedResult(f"lines {sorted(expected.lines)} are {sorted(named)} in utterances and problems")


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


def _read_recordings(path: Path, read: Input) -> None:
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


def _read_run_log(path: Path, read: Input) -> None:
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


def _read_certificates(path: Path, read: Input) -> None:
    Tls(ca=path, certificate=path, key=path)


def _inputs(content: st.SearchStrategy[bytes], suffix: str) -> st.SearchStrategy[Input]:
    return content.map(lambda content: Input.of(suffix, content))


def _audio_reader(folder: Path) -> Reader:
    return Reader("audio files", audio_inputs(), _read_audio, AudioError)


def _manifest_reader(folder: Path) -> Reader:
    _write_recording(folder)
    return Reader("manifests", manifest_inputs(), _read_manifest, ManifestError)


def _recordings_reader(folder: Path) -> Reader:
    _write_recording(folder)
    return Reader("the export's recordings", manifest_inputs(), _read_recordings, ExportError)


def _run_log_reader(folder: Path) -> Reader:
    logs = _inputs(mutated_json_lines(_run_log_lines(folder)), "jsonl")
    return Reader("logs of bench.py --rows", logs, _read_run_log, RunLogError)


def _certificate_reader(folder: Path) -> Reader:
    return Reader("certificates", _inputs(pem_files(), "pem"), _read_certificates, TlsError)


def _write_recording(folder: Path) -> None:
    """Write the recording that manifests name."""
    (folder / RECORDING).write_bytes(valid_audio("WAV", "PCM_16", 1))


READERS: dict[str, Callable[[Path], Reader]] = {
    "audio": _audio_reader,
    "manifests": _manifest_reader,
    "recordings": _recordings_reader,
    "run_logs": _run_log_reader,
    "certificates": _certificate_reader,
}
"""Functions that return a reader for a folder, by the name of its folder."""
