"""Probes: recordings on which an export is compared with NeMo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export_scripts.errors import ExportError
from export_scripts.recordings import NO_RECORDINGS, Recordings, read_recordings
from nemo_triton.audio import Samples, as_float, join
from nemo_triton.contract import INT16_FULL_SCALE, SAMPLE_RATE
from nemo_triton.demo_speech import MANIFEST as DEMO_MANIFEST

if TYPE_CHECKING:
    from export_scripts.stages.features import FrontEnd

ENOUGH = 6
SHORTEST_SAMPLES = 257
"""Samples that NeMo's front end needs with its usual DFT of 512: before NeMo 2.5 it reflects 256 at each end. Later
front ends need one hop, 160 samples, for a frame."""


@dataclass(frozen=True)
class Probes:
    """Recordings, and signals derived from them, such as shorter and longer ones."""

    recordings: Recordings
    derived: Recordings = NO_RECORDINGS

    @property
    def signals(self) -> tuple[np.ndarray, ...]:
        return (*self.recordings.signals, *self.derived.signals)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.recordings.names, *self.derived.names)

    def up_to(self, seconds: int) -> Probes:
        """These probes for a model that takes audio of at most `seconds`: longer derived signals are left out.

        Raises:
            ExportError: A recording is longer.
        """
        for name, signal in zip(self.recordings.names, self.recordings.signals, strict=True):
            if len(signal) > seconds * SAMPLE_RATE:
                raise ExportError(
                    f"{self.recordings.source}: {name} is longer than the {seconds} seconds that the model takes; "
                    "leave it out of the probes, or set --max-audio-seconds"
                )
        return Probes(self.recordings, self.derived.up_to(seconds))

    def for_front_end(self, front_end: FrontEnd) -> Probes:
        """These probes, if a model's front end can compute features of each.

        Raises:
            ExportError: A recording is too short.
        """
        shortest = front_end.n_fft // 2 + 1 if front_end.edges == "reflect" else front_end.hop_length
        for recordings in (self.recordings, self.derived):
            _check_shortest(recordings, shortest)
        return self


def read_probes(source: Path | None, most: int | None = ENOUGH) -> Probes:
    """Read recordings and derive more signals from them.

    Args:
        source: Folder or manifest; None uses the recordings of the demo.
        most: Number of demo recordings; None uses all.

    Raises:
        ExportError: There is no recording, or one can't be used.
    """
    recordings = read_long_enough(source) if source else _demo_commands().first(most)
    return Probes(recordings, _derived_from(recordings.signals))


def read_long_enough(source: Path) -> Recordings:
    """Read recordings for comparison or calibration that NeMo's front end can compute features of.

    Raises:
        ExportError: There is no recording, or one can't be used.
    """
    recordings = read_recordings(source)
    _check_shortest(recordings, SHORTEST_SAMPLES)
    return recordings


def _check_shortest(recordings: Recordings, samples: int) -> None:
    for name, signal in zip(recordings.names, recordings.signals, strict=True):
        if len(signal) < samples:
            raise ExportError(
                f"{recordings.source}: {name} has {len(signal)} samples at 16 kHz; NeMo's front end needs {samples}: "
                "leave it out"
            )


def _demo_commands() -> Recordings:
    return replace(read_recordings(DEMO_MANIFEST.parent), source="demo commands")


def _derived_from(recordings: Sequence[Samples]) -> Recordings:
    """Longer signals, shorter ones, noise, and float samples of unusual levels."""
    noise = np.random.default_rng(0).normal(0, 300, 24_000).astype(np.int16)
    repeated = [recordings[index % len(recordings)] for index in range(ENOUGH)]
    long = {f"{count} joined": join(repeated[:count]) for count in (2, 3, ENOUGH)}
    # Cut around the loudest sample: in near silence, normalization amplifies the rounding of NeMo's own logarithms
    # beyond any tolerance.
    first = recordings[0]
    loudest = int(np.abs(first.astype(np.float64)).argmax())
    starts = {count: min(max(0, loudest - count // 2), len(first) - count) for count in (1_600, 4_801, 11_200)}
    # A first recording that is shorter is a short probe itself.
    short = {f"{count} samples": first[start:][:count] for count, start in starts.items() if start >= 0}
    levels = {"at a tenth of its level": 0.1, "in the units of int16": float(INT16_FULL_SCALE)}
    scaled = {name: as_float(first) * np.float32(factor) for name, factor in levels.items()}
    signals: dict[str, Samples] = {**long, **short, "noise": noise, **scaled}
    source = "made of these recordings: joined, cut, noise, and at other levels"
    return Recordings(source, tuple(signals.values()), tuple(signals))
