"""The log of a run (--rows): a file of JSON lines from which an interrupted run resumes.

The first line describes the run. Each later line is a response, or the end of a session with the servers' counters.
Each line is written immediately, so that a kill loses at most the last one.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_triton.errors import ClientError
from nemo_triton.loadtest.json_keys import from_json, to_json
from nemo_triton.loadtest.measure import LoadRun, Session
from nemo_triton.loadtest.recording import RecordingInfo, Response
from nemo_triton.loadtest.schedule import Load
from nemo_triton.loadtest.server_counters import Counters, Snapshot
from nemo_triton.loadtest.server_metrics import GpuUsage, Level, Usage
from nemo_triton.loadtest.value_types import check_types

_UNUSABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading a row raises if it lacks a field or has another type there."""


class RunLogError(ClientError):
    """A file is not a run log, or belongs to another run."""


class RunLog:
    """The log of one run, open for appending."""

    def __init__(self, path: Path, recordings: Sequence[RecordingInfo]) -> None:
        self._path = path
        self._recordings = recordings
        self._file = path.open("a", encoding="utf-8")

    @classmethod
    def begin(cls, path: Path, header: Mapping[str, Any], recordings: Sequence[RecordingInfo]) -> RunLog:
        """Create the log of a new run.

        Args:
            path: Path of the file.
            header: Description of the run; a resumed run must have the same.
            recordings: The recordings that the run sends.

        Raises:
            RunLogError: The file exists already.
        """
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(_line(header))
        except FileExistsError as error:
            raise RunLogError(f"{path}: exists already; continue that run with --resume, or name a new file") from error
        return cls(path, recordings)

    @classmethod
    def resume(
        cls, path: Path, header: Mapping[str, Any], recordings: Sequence[RecordingInfo], loads: Sequence[Load]
    ) -> tuple[RunLog, list[LoadRun]]:
        """Open the log of an earlier run with the same header.

        Failed responses are removed from the file, to be sent again, and so is an incomplete last line.

        Args:
            path: Path of the file.
            header: Description of the run.
            recordings: The recordings that the run sends.
            loads: The loads of the run.

        Returns:
            The log, and the responses and sessions of each load.

        Raises:
            RunLogError: The file is not a run log, or belongs to another run.
        """
        written, rows = _read(path)
        differing = sorted(key for key in {**header, **written} if header.get(key) != written.get(key))
        if differing:
            raise RunLogError(
                f"{path}: belongs to a run with another {', '.join(differing)}; resume with the same settings, or "
                "name a new file"
            )
        try:
            kept_rows = [row for row in rows if "session" in row or row["error"] is None]
            runs = [_load_run(load, kept_rows, len(recordings)) for load in loads]
        except _UNUSABLE as error:
            raise RunLogError(f"{path}: was written by an incompatible version of bench.py; name a new file") from error
        temporary = path.with_name(f".{path.name}.partial")
        temporary.write_text("".join(map(_line, [written, *kept_rows])), encoding="utf-8")
        temporary.rename(path)
        run_log = cls(path, recordings)
        for run, answered in runs:
            killed = run.responses[answered:]
            if killed:
                run.sessions.append(Session(wall_seconds=max(response.answered for response in killed)))
                run_log.session(run.load, run.sessions[-1])
        return run_log, [run for run, _ in runs]

    def answer(self, load: Load, response: Response) -> None:
        """Append a response."""
        recording = self._recordings[response.recording]
        self._append(
            {
                "load": load.name,
                **to_json(response),
                "audio": recording.utterance.name,
                "duration": recording.duration,
                "reference": recording.utterance.text,
            }
        )

    def session(self, load: Load, session: Session) -> None:
        """Append the end of a session."""
        self._append({"load": load.name, "session": to_json(session)})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, row: Mapping[str, Any]) -> None:
        try:
            self._file.write(_line(row))
            self._file.flush()
        except OSError as error:
            raise RunLogError(
                f"{self._path}: cannot be written ({error.strerror}); free some space, then continue with --resume"
            ) from error


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the header and all complete rows."""
    try:
        content = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise RunLogError(f"{path}: not a log of bench.py --rows; name another file, or leave out --resume") from error
    except OSError as error:
        raise RunLogError(
            f"{path}: cannot be read ({error.strerror}); leave out --resume to start a new run"
        ) from error
    # Text after the last line end is a line that a kill cut off.
    lines = content.split("\n")[:-1]  # Not splitlines(), which also splits at U+2028.
    try:
        header, *rows = [json.loads(line) for line in lines]
        if (
            not isinstance(header, dict)
            or not all("load" in row and ("session" in row or "number" in row) for row in rows)
            or "load" in header
        ):
            raise ValueError
        _rename_rates(header, rows)
    except (*_UNUSABLE, RecursionError) as error:
        raise RunLogError(f"{path}: not a log of bench.py --rows; name another file, or leave out --resume") from error
    return header, rows


def _rename_rates(header: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Rename the open loops in logs of earlier versions to the present name, "5 per second"."""

    def renamed(name: object) -> str:
        return re.sub(r" a (?=second$)", " per ", str(name))

    if "load list" in header:
        header["load list"] = [renamed(name) for name in header["load list"]]
    for row in rows:
        row["load"] = renamed(row["load"])


def _load_run(load: Load, rows: Sequence[Mapping[str, Any]], recordings: int) -> tuple[LoadRun, int]:
    """Collect the rows of one load, and count the responses of sessions that ended.

    Args:
        load: The load.
        rows: The rows of all loads.
        recordings: Number of recordings of the run.
    """
    run, answered = LoadRun(load), 0
    names = {field.name for field in dataclasses.fields(Response)}
    for row in rows:
        if row["load"] != load.name:
            continue
        if "session" in row:
            run.sessions.append(_session(row["session"]))
            answered = len(run.responses)
        else:
            values = from_json(row)
            response = Response(**{name: values[name] for name in names if name in values})
            check_types(response)
            if not 0 <= response.recording < recordings:
                raise ValueError(f"recording {response.recording} of {recordings}")
            run.responses.append(response)
    return run, answered


def _session(row: Mapping[str, Any]) -> Session:
    def snapshot(counted: Mapping[str, Any]) -> Snapshot:
        return {
            model: Counters(**{**counters, "batches": {int(size): n for size, n in counters["batches"].items()}})
            for model, counters in counted.items()
        }

    values = from_json(row)
    session = Session(
        wall_seconds=values["wall_seconds"],
        counted_by_endpoint={name: snapshot(counted) for name, counted in values["counted_by_endpoint"].items()},
        uncounted=tuple(values["uncounted"]),
        usages={url: _usage(usage) for url, usage in values["usages"].items()},
        client_cpu_seconds=tuple(values["client_cpu_seconds"]),
        loop_lag_seconds=tuple(values["loop_lag_seconds"]),
        server_gone=values["server_gone"],
    )
    check_types(session)
    return session


def _usage(row: Mapping[str, Any]) -> Usage:
    def level(value: Mapping[str, float] | None) -> Level | None:
        return Level(**value) if value else None

    gpus = [
        GpuUsage(
            uuid=gpu["uuid"],
            busy=level(gpu["busy"]),
            memory_bytes=level(gpu["memory_bytes"]),
            watts=level(gpu["watts"]),
        )
        for gpu in row["gpus"]
    ]
    return Usage(
        samples=row["samples"], cpu=level(row["cpu"]), memory_bytes=level(row["memory_bytes"]), gpus=tuple(gpus)
    )
