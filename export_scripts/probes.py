"""Recordings on which an exported model is compared with NeMo."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from export_scripts.errors import ExportError

SAMPLE_RATE = 16_000
DEMO_COMMANDS = Path(__file__).parent.parent / "demo" / "commands"
ENOUGH = 6


def read_probes(source: Path | None, most: int | None = ENOUGH) -> list[np.ndarray]:
    """int16 recordings at 16 kHz of a folder or a manifest, by default `most` of the demo's, and what is made of them.

    Raises ExportError where there are none, or one is of another kind.
    """
    recordings = read_recordings(source) if source else read_recordings(DEMO_COMMANDS)[:most]
    return [*recordings, *_made_of(recordings)]


def read_recordings(source: Path) -> list[np.ndarray]:
    """int16 [T] at 16 kHz of each .flac file of a folder, or of each line of a manifest (NeMo's JSON lines).

    Raises ExportError, naming the file, where there are none or one can't be used.
    """
    return [_read(file) for file in (_flac_files(source) if source.is_dir() else _listed(source))]


def _flac_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.flac"))
    if not files:
        raise ExportError(f"{folder}: holds no .flac recordings; give a folder of some, or a manifest")
    return files


def _listed(manifest: Path) -> list[Path]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
        entries = [json.loads(line) for line in lines if line.strip()]
        files = [manifest.parent / entry["audio_filepath"] for entry in entries]
    except OSError as error:
        raise ExportError(f"{manifest}: {error.strerror}; give a folder of .flac recordings, or a manifest") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ExportError(f"{manifest}: not NeMo's JSON lines, an object with audio_filepath on each") from error
    if not files:
        raise ExportError(f"{manifest}: lists no recordings")
    return files


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
