"""Result files of the verification steps: JSON lines, with the encoder's scores in an .npz file of the same name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.core.results_folder import write_text

RECORDINGS_HELP = "Number of recordings to use, spread evenly over all lengths.  [default: all]"
"""Help of the steps' option --recordings."""

UNBATCHED, BATCHED_WITH_LOG_PROBS, BATCHED = "unbatched", "batched_log_probs", "batched"
"""Passes over all recordings, by the names of their result files: one request at a time; concurrent requests for text
and log-probs; concurrent requests for text."""


@dataclass(frozen=True)
class Record:
    """The transcript of one recording.

    Attributes:
        audio: Name of the recording.
        seconds: Duration of the recording.
        text: The transcript.
        tokens: Token ids [n]; None for NeMo's CTC models, which are compared by text.
        log_probs: float32 [frames, labels], or None. For a NeMo transducer, the joint's projection of the encoder's
            output, [frames, joint].
        frames: Encoder frame of each token [n]; None for NeMo's transcripts.
    """

    audio: str
    seconds: float
    text: str
    tokens: list[int] | None = None
    log_probs: NDArray[np.float32] | None = None
    frames: list[int] | None = None


def write_records(file: Path, records: Sequence[Record]) -> None:
    """Write `file` (.jsonl) and its .npz.

    The .jsonl is written last and atomically: if it exists, both are complete.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # Any, because savez also has named parameters of other types.
    log_probs: dict[str, Any] = {
        str(row): record.log_probs for row, record in enumerate(records) if record.log_probs is not None
    }
    with file.with_suffix(".npz").open("wb") as output:
        np.savez(output, **log_probs)
    names = ("audio", "seconds", "text", "tokens", "frames")
    lines = [json.dumps({name: getattr(record, name) for name in names}) for record in records]
    write_text(file, "".join(f"{line}\n" for line in lines))


def read_records(file: Path) -> list[Record]:
    """Read the records that `write_records` wrote."""
    with np.load(file.with_suffix(".npz")) as arrays:
        log_probs = dict(arrays)
    lines = file.read_text().splitlines()
    return [Record(**json.loads(line), log_probs=log_probs.get(str(row))) for row, line in enumerate(lines)]


def is_of(file: Path, names: Sequence[str]) -> bool:
    """Whether `file` holds the records of exactly these recordings."""
    return file.exists() and [json.loads(line)["audio"] for line in file.read_text().splitlines()] == list(names)


def is_done(output: Path, *inputs: Path) -> bool:
    """Whether `output` exists and is at least as new as all `inputs`."""
    return output.exists() and all(output.stat().st_mtime >= file.stat().st_mtime for file in inputs)
