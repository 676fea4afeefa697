"""Recordings on which an exported model is compared with NeMo."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export_scripts.errors import ExportError
from export_scripts.verify.audio_files import audio_files, load_samples
from export_scripts.verify.recordings import NO_RECORDINGS, Recordings
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST

DEMO_COMMANDS = DEMO_MANIFEST.parent
ENOUGH = 6
WANTED = "give a folder of recordings, or a manifest (NeMo's JSON lines)"


@dataclass(frozen=True)
class Probes:
    """Recordings, and signals that are made of them."""

    recordings: Recordings
    made: Recordings = NO_RECORDINGS

    @property
    def signals(self) -> tuple[np.ndarray, ...]:
        return (*self.recordings.signals, *self.made.signals)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.recordings.names, *self.made.names)


def read_probes(source: Path | None, most: int | None = ENOUGH) -> Probes:
    """Recordings of a folder or a manifest, by default `most` of the demo's, and what is made of them.

    Raises ExportError where there are none or one can't be used.
    """
    recordings = read_recordings(source) if source else _demo_commands().first(most)
    return Probes(recordings, _made_of(recordings.signals))


def read_recordings(source: Path) -> Recordings:
    """Each audio file of a folder, or of each line of a manifest (NeMo's JSON lines), at 16 kHz.

    Raises ExportError, naming the file and the manifest's line, where there are none or one can't be used.
    """
    # Where it lies on this machine is nobody's business who reads the report.
    told = source.name if source.is_absolute() else str(source)
    return _in_folder(source, told) if source.is_dir() else _in_manifest(source, told)


def _demo_commands() -> Recordings:
    return _in_folder(DEMO_COMMANDS, "demo commands")


def _in_folder(folder: Path, told: str) -> Recordings:
    files = audio_files(folder)
    if not files:
        raise ExportError(f"{folder}: holds no recordings, such as .wav or .flac files; {WANTED}")
    return Recordings(told, tuple(map(load_samples, files)), tuple(file.name for file in files))


def _in_manifest(manifest: Path, told: str) -> Recordings:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ExportError(f"{manifest}: {error.strerror}; {WANTED}") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"{manifest}: is no text; {WANTED}") from error
    if manifest.suffix.lower() == ".csv":
        raise ExportError(
            f"{manifest}: is CSV, not NeMo's JSON lines; `python -m benchmark.prepare mine={manifest} --out data` in "
            ".venv/serve makes data/mine/manifest.jsonl of it"
        )
    signals, names = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            file = manifest.parent / json.loads(line)["audio_filepath"]
        except (ValueError, TypeError, KeyError) as error:
            raise ExportError(
                f"{manifest}:{number}: not a line of NeMo's manifests, a JSON object with audio_filepath"
            ) from error
        try:
            signals.append(load_samples(file))
        except ExportError as error:
            raise ExportError(f"{manifest}:{number}: {error}") from error
        names.append(file.name)
    if not signals:
        raise ExportError(f"{manifest}: lists no recordings")
    return Recordings(told, tuple(signals), tuple(names))


def _made_of(recordings: Sequence[np.ndarray]) -> Recordings:
    """Long ones, short ones, and noise."""
    noise = np.random.default_rng(0).normal(0, 300, 24_000).astype(np.int16)
    endless = [recordings[index % len(recordings)] for index in range(ENOUGH)]
    long = {f"{count} joined": np.concatenate(endless[:count]) for count in (2, 3, ENOUGH)}
    # Cut around the loudest sample: where hardly anything is heard, normalisation blows up the
    # rounding of NeMo's own logarithms beyond any tolerance.
    first = recordings[0]
    loudest = int(np.abs(first.astype(np.int32)).argmax())
    short = {f"{count} samples": first[max(0, loudest - count // 2) :][:count] for count in (1_600, 4_801, 11_200)}
    signals = {**long, **short, "noise": noise}
    return Recordings("made of these recordings: joined, cut, and noise", tuple(signals.values()), tuple(signals))
