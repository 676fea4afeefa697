"""Recordings on which an exported model is compared with NeMo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from export_scripts.errors import ExportError

SAMPLE_RATE = 16_000
DEMO_COMMANDS = Path(__file__).parent.parent / "demo" / "commands"
ENOUGH = 6


def read_probes(folder: Path | None) -> list[np.ndarray]:
    """int16 recordings at 16 kHz: a folder's, or by default some of the demo's; and what is made of them.

    Raises ExportError where there are none, or one is of another kind.
    """
    files = sorted((folder or DEMO_COMMANDS).glob("*.flac"))
    if not files:
        raise ExportError(f"{folder or DEMO_COMMANDS}: holds no .flac recordings; give a folder of some by --probes")
    recordings = [_read(file) for file in (files if folder else files[:ENOUGH])]
    return [*recordings, *_made_of(recordings)]


def _read(file: Path) -> np.ndarray:
    try:
        samples, rate = soundfile.read(file, dtype="int16")
    except (soundfile.LibsndfileError, OSError) as error:
        raise ExportError(f"{file}: can't be read as audio: {error}") from error
    if rate != SAMPLE_RATE or samples.ndim != 1 or not len(samples):
        raise ExportError(f"{file}: probes are 16 kHz mono, this is {rate} Hz of shape {samples.shape}")
    recording: np.ndarray = samples
    return recording


def _made_of(recordings: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Long ones, short ones, and noise."""
    noise = np.random.default_rng(0).normal(0, 300, 24_000).astype(np.int16)
    endless = [recordings[index % len(recordings)] for index in range(ENOUGH)]
    long = [np.concatenate(endless[:count]) for count in (2, 3, ENOUGH)]
    # Cut around the loudest sample: where hardly anything is heard, normalisation blows up the
    # rounding of NeMo's own logarithms beyond any tolerance.
    first = recordings[0]
    loudest = int(np.abs(first.astype(np.int32)).argmax())
    short = [first[max(0, loudest - count // 2) :][:count] for count in (1_600, 4_801, 11_200)]
    return [*long, *short, noise]
