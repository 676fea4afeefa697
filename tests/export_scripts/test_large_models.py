"""Exports of models over 2 GiB. The limit is a setting; here it makes the demo's model and a tiny Conformer large."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from architectures import NEW_NEMO
from command import invoke_export
from fixture_types import CheckpointFile
from locations import ROOT
from snapshots import snapshot
from waiting import wait_until

from export_scripts.errors import ExportError
from export_scripts.export_checkpoint import ExportSettings, export_checkpoint
from export_scripts.operators.tuning import Target
from export_scripts.operators.walk import all_graphs
from export_scripts.operators.weights import LARGEST_GRAPH, SMALLEST_IN_FILE
from export_scripts.precision.choice import CALIBRATED, PRECISIONS, Precision, PrecisionName
from export_scripts.recordings import NO_RECORDINGS
from export_scripts.repository.config import Serving
from export_scripts.repository.validate import check_repository
from export_scripts.verify.probes import Probes, read_probes
from nemo_triton.contract import Part

GRAPH, DATA = "model.onnx", "model.onnx.data"
LARGE = 100_000
"""Most bytes of weights in a graph here; every encoder has more."""
FEW = Probes(read_probes(None).recordings.first(3))
EXPORT_LARGE = f"""
import signal, sys
from pathlib import Path
from export_scripts.export_checkpoint import ExportSettings, export_checkpoint
from export_scripts.repository.config import Serving
from export_scripts.verify.probes import read_probes
signal.signal(signal.SIGTERM, signal.default_int_handler)
checkpoint, repository = sys.argv[1:]
settings = ExportSettings(
    repository=Path(repository), serving=Serving(), probes=read_probes(None), largest_graph={LARGE}
)
export_checkpoint(checkpoint, settings)
"""


def settings_of(repository: Path, precision: PrecisionName = "fp32", target: Target = "cpu") -> ExportSettings:
    """Settings of an export of large models, compared on a few recordings."""
    calibration = FEW.recordings if precision in CALIBRATED else NO_RECORDINGS
    return ExportSettings(
        repository=repository,
        serving=Serving.of(target),
        probes=FEW,
        precision=Precision(precision, 1.0, calibration),
        largest_graph=LARGE,
    )


def files_of(repository: Path, model: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (repository / Part.ENCODER.of(model) / "1").iterdir()}


def raw_weights(graph: bytes, data: bytes = b"") -> dict[str, bytes]:
    """The bytes of each large weight by its name, in a graph or in its file of weights."""
    content = {}
    for inner in all_graphs(onnx.load_from_string(graph).graph):
        for tensor in inner.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            start = int(entries.get("offset", 0))
            raw = data[start : start + int(entries["length"])] if entries else tensor.raw_data
            if len(raw) >= SMALLEST_IN_FILE:
                content[tensor.name] = raw
    return content


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_large_model_is_the_same_model_with_a_file_of_weights(
    precision: PrecisionName, demo_checkpoint: Path, tmp_path: Path
) -> None:
    """The small export, the large one, and the large one again: same weights, same comparison with NeMo."""
    large = settings_of(tmp_path / "large", precision)
    small = replace(large, repository=tmp_path / "small", largest_graph=LARGEST_GRAPH)
    again = replace(large, repository=tmp_path / "again")
    lines = [export_checkpoint(str(demo_checkpoint), settings) for settings in (small, large, again)]
    assert len(set(lines)) == 1
    name = demo_checkpoint.stem
    whole, divided = (files_of(settings.repository, name) for settings in (small, large))
    assert set(whole) == {GRAPH} and set(divided) == {GRAPH, DATA}
    assert len(divided[GRAPH]) < len(whole[GRAPH]) / 2
    assert raw_weights(divided[GRAPH], divided[DATA]) == raw_weights(whole[GRAPH]) != {}
    reports = [(settings.repository / name / "1" / "parity.json").read_text() for settings in (small, large)]
    assert json.loads(reports[0]) == json.loads(reports[1])
    assert snapshot(again.repository) == snapshot(large.repository)
    assert check_repository(large.repository, contents=True) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "large", "small"], "no work folder is left"
    assert not list(large.repository.glob(".*"))


@pytest.mark.parametrize("target", ["cpu", "gpu"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_large_conformer(
    target: Target, precision: PrecisionName, checkpoint_file: CheckpointFile, tmp_path: Path
) -> None:
    """For a GPU the attention and the convolutions are replaced, whose weights are read."""
    file = checkpoint_file("conformer_transducer", NEW_NEMO)
    repository = tmp_path / "repository"
    export_checkpoint(str(file), settings_of(repository, precision, target))
    assert set(files_of(repository, file.stem)) == {GRAPH, DATA}
    assert check_repository(repository, contents=True) == []


def test_a_large_model_is_replaced_whole(demo_checkpoint: Path, tmp_path: Path) -> None:
    large = settings_of(tmp_path / "repository")
    for settings, files in ((large, {GRAPH, DATA}), (replace(large, largest_graph=LARGEST_GRAPH), {GRAPH})):
        export_checkpoint(str(demo_checkpoint), settings)
        assert set(files_of(large.repository, demo_checkpoint.stem)) == files


def are_weights_written(folder: Path) -> bool:
    """Whether an export to a repository in this folder has traced the encoder and not moved it yet."""
    try:
        return any(file.stat().st_size for file in folder.glob(".repository.export-*/new/.weights-*/*"))
    except FileNotFoundError:
        # The export removed a file while it was listed.
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_export_leaves_no_weights(demo_checkpoint: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORT_LARGE, demo_checkpoint, tmp_path / "repository"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def begins() -> bool:
        assert process.poll() is None
        return are_weights_written(tmp_path)

    wait_until(begins, seconds=600, interval=0.005)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    if number == signal.SIGKILL:
        # The next export cleans up.
        assert list(tmp_path.glob(".repository.export-*"))
        assert invoke_export(demo_checkpoint, "--repository", tmp_path / "repository").exit_code == 0
        assert [path.name for path in tmp_path.iterdir()] == ["repository"]
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_for_the_weights(demo_checkpoint: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        repository = disk / "repository"
        with pytest.raises(ExportError, match=f"^{repository}: no space left: the export writes 0.0 GB, 0.0 GB are"):
            export_checkpoint(str(demo_checkpoint), settings_of(repository))
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_the_check_names_damaged_weights(damage: str, demo_checkpoint: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    export_checkpoint(str(demo_checkpoint), settings_of(repository))
    encoder = Part.ENCODER.of(demo_checkpoint.stem)
    file = repository / encoder / "1" / DATA
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(content[:-100] + (bytes(100) if damage == "changed" else b""))
    command = [sys.executable, "export_scripts/check.py", str(repository)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    (line,) = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    words = {"missing": "are missing", "short": "bytes of weights instead of", "changed": "has another checksum"}
    assert line.startswith(f"{encoder}: 1/{GRAPH}: ") and words[damage] in line and line.endswith("the model again")
