"""The files in which the steps hand results on: JSON lines, and encoders' scores beside them as .npz."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.core.results_folder import write_text


@dataclass(frozen=True)
class Record:
    """What a recognizer made of one recording.

    tokens: ids [n]; None from NeMo's CTC models, of which only the text counts
    log_probs: float32 [frames, labels]; None where they were not asked for. Of a transducer, from NeMo only, the
        joint's projection of the encoding [frames, joint]
    frames: the encoder frame of each token [n], where it was served
    """

    audio: str
    seconds: float
    text: str
    tokens: list[int] | None = None
    log_probs: NDArray[np.float32] | None = None
    frames: list[int] | None = None


def write_records(file: Path, records: Sequence[Record]) -> None:
    """Write `file` (.jsonl), last of all and at once, so that where it exists it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Any, for savez has named parameters of other types, which these names can't be.
    log_probs: dict[str, Any] = {
        str(row): record.log_probs for row, record in enumerate(records) if record.log_probs is not None
    }
    with file.with_suffix(".npz").open("wb") as output:
        np.savez(output, **log_probs)
    names = ("audio", "seconds", "text", "tokens", "frames")
    lines = [json.dumps({name: getattr(record, name) for name in names}) for record in records]
    write_text(file, "".join(f"{line}\n" for line in lines))


def read_records(file: Path) -> list[Record]:
    """What `write_records` wrote."""
    with np.load(file.with_suffix(".npz")) as arrays:
        log_probs = dict(arrays)
    lines = file.read_text().splitlines()
    return [Record(**json.loads(line), log_probs=log_probs.get(str(row))) for row, line in enumerate(lines)]


def is_of(file: Path, names: Sequence[str]) -> bool:
    """Whether `file` holds records of just these recordings."""
    return file.exists() and [json.loads(line)["audio"] for line in file.read_text().splitlines()] == list(names)


def is_done(output: Path, *inputs: Path) -> bool:
    """Whether `output` exists and is newer than all it was made from."""
    return output.exists() and all(output.stat().st_mtime >= file.stat().st_mtime for file in inputs)
