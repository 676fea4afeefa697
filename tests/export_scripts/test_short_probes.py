"""Probes and calibration recordings that are too short for NeMo's front end: one line instead of NeMo's traceback."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import invoke_export
from fixture_types import OpenCheckpoint
from locations import DEMO_MANIFEST

from export_scripts.checkpoints.nemo_reference import nemo_reference
from export_scripts.errors import ExportError
from export_scripts.recordings import Recordings
from export_scripts.stages.features import Edges
from export_scripts.verify.probes import SHORTEST_SAMPLES, Probes, read_probes

SPEECH = soundfile.read(DEMO_MANIFEST.parent / "0000_awb.flac", dtype="int16")[0][20_000:]
FRONT_ENDS: dict[Edges, int] = {"reflect": SHORTEST_SAMPLES, "zero": 160}
"""The fewest samples of which each front end makes a frame."""


def folder_of(folder: Path, **samples: int) -> Path:
    """A folder with a recording of each number of samples."""
    folder.mkdir()
    for name, count in samples.items():
        soundfile.write(folder / f"{name}.wav", SPEECH[:count], 16_000)
    return folder


def frames_by_nemo(checkpoint: OpenCheckpoint, edges: Edges, samples: int) -> int:
    opened = checkpoint("conformer")
    opened = dataclasses.replace(opened, front_end=dataclasses.replace(opened.front_end, edges=edges))
    return len(nemo_reference(opened, opened.decoder, SPEECH[:samples]).features)


@pytest.mark.parametrize("edges", FRONT_ENDS)
def test_the_limit_is_nemos(edges: Edges, checkpoint: OpenCheckpoint) -> None:
    front_end = dataclasses.replace(checkpoint("conformer").front_end, edges=edges)
    least = FRONT_ENDS[edges]
    assert frames_by_nemo(checkpoint, edges, least) > 0
    if edges == "reflect":
        with pytest.raises(RuntimeError, match="Padding size should be less"):
            frames_by_nemo(checkpoint, edges, least - 1)
    else:
        assert frames_by_nemo(checkpoint, edges, least - 1) == 0
    enough = Probes(Recordings("speech", (SPEECH[:least],), ("a.wav",)))
    assert enough.for_front_end(front_end) is enough
    short = Probes(Recordings("speech", (SPEECH, SPEECH[: least - 1]), ("a.wav", "b.wav")))
    with pytest.raises(ExportError) as refusal:
        short.for_front_end(front_end)
    assert str(refusal.value) == (
        f"speech: b.wav has {least - 1} samples at 16 kHz; NeMo's front end needs {least}: leave it out"
    )


def test_a_longer_dft_reflects_more(checkpoint: OpenCheckpoint) -> None:
    front_end = dataclasses.replace(checkpoint("conformer").front_end, n_fft=1024, edges="reflect")
    with pytest.raises(ExportError, match="needs 513: leave it out"):
        Probes(Recordings("speech", (SPEECH[:512],), ("a.wav",))).for_front_end(front_end)


@pytest.mark.parametrize("samples", [SHORTEST_SAMPLES, 1_599, 1_600, 4_900])
def test_signals_derived_of_a_short_first_recording(samples: int, tmp_path: Path, checkpoint: OpenCheckpoint) -> None:
    derived = read_probes(folder_of(tmp_path / "speech", a=samples)).derived
    lengths = dict(zip(derived.names, map(len, derived.signals), strict=True))
    assert min(lengths.values()) >= SHORTEST_SAMPLES
    cut = {name: length for name, length in lengths.items() if name.endswith(" samples")}
    assert all(name == f"{length} samples" for name, length in cut.items())
    assert len(cut) == sum(count <= samples for count in (1_600, 4_801, 11_200))
    opened = checkpoint("conformer")
    opened = dataclasses.replace(opened, front_end=dataclasses.replace(opened.front_end, edges="reflect"))
    assert all(np.isfinite(nemo_reference(opened, opened.decoder, signal).scores).all() for signal in derived.signals)


@pytest.mark.parametrize("option", ["--probes", "--calibration"])
def test_the_export_says_which_recording_is_too_short_before_it_loads_nemo(option: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "speech", long=20_000, short=SHORTEST_SAMPLES - 1)
    options = ("--precision", "int8") if option == "--calibration" else ()
    result = invoke_export("missing.nemo", "--repository", tmp_path / "repository", option, folder, *options)
    assert result.exit_code == 2
    assert result.output == (
        "error: speech: short.wav has 256 samples at 16 kHz; NeMo's front end needs 257: leave it out\n"
    )
