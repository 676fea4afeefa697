"""The export command: every architecture against NeMo, and everything that can go wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from locations import ROOT, SHARED
from tiny_models import NEW_NEMO, OLD_NEMO, read_config, rewrite_config
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.chain import write_recognizer
from export_scripts.check import check_repository
from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.errors import ExportError, ParityError
from export_scripts.export import export
from export_scripts.operators.tuning import Target
from export_scripts.precision.choice import FP32, Precision
from export_scripts.repository.config import Serving
from export_scripts.repository.config import read_config as read_model_config
from export_scripts.repository.names import recognizer_name
from export_scripts.repository.publish import publishing
from export_scripts.verify.local_ensemble import Runner
from export_scripts.verify.parity import verify
from export_scripts.verify.probes import Probes, read_probes

PROBES = read_probes(None)
FEW = Probes(PROBES.recordings.first(3))


def run_export(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "export_scripts/export.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def snapshot(repository: Path) -> dict[str, bytes]:
    files = (path for path in sorted(repository.rglob("*")) if path.is_file())
    return {str(path.relative_to(repository)): path.read_bytes() for path in files}


@pytest.mark.parametrize(("nemo_version", "target"), [(OLD_NEMO, "cpu"), (NEW_NEMO, "cpu"), (NEW_NEMO, "gpu")])
def test_every_architecture_gives_nemos_text(
    architecture: str,
    nemo_version: str,
    target: Target,
    checkpoint_file: Callable[[str, str], Path],
    tmp_path: Path,
) -> None:
    file = checkpoint_file(architecture, nemo_version)
    export(str(file), tmp_path, Serving(max_batch_size=8, target=target), PROBES)
    parity = json.loads((tmp_path / file.stem / "1" / "parity.json").read_text())
    assert parity["texts_equal"] + parity["texts_tied"] == parity["texts_compared"] == 3 * parity["probes"]
    assert parity["texts_tied"] <= 2
    assert parity["characters"] > 20 * parity["probes"]
    assert parity["features_difference"] < 2e-3
    assert parity["scores_difference"] < 1e-2
    assert parity["scores_difference_in_batches"] < 1e-2
    assert check_repository(tmp_path) == []
    assert all(list(version.iterdir()) for version in tmp_path.glob("*/1")), "git and object stores drop empty folders"


def test_models_with_one_front_end_share_its_stage(checkpoint_file: Callable[[str, str], Path], tmp_path: Path) -> None:
    for source in ("quartznet", "jasper"):
        export(str(checkpoint_file(source, NEW_NEMO)), tmp_path, Serving(), PROBES)
    export(str(checkpoint_file("quartznet", OLD_NEMO)), tmp_path, Serving(), PROBES)
    stages = sorted(path.name.rpartition("_")[0] for path in tmp_path.glob("mel_*"))
    assert stages == ["mel_64_20ms_reflect", "mel_64_20ms_zero"]


def test_models_exported_with_different_settings_serve_together(
    checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    export(str(checkpoint_file("quartznet", NEW_NEMO)), tmp_path, Serving(max_batch_size=16), PROBES)
    export(str(checkpoint_file("jasper", NEW_NEMO)), tmp_path, Serving(max_batch_size=1), PROBES)
    assert check_repository(tmp_path) == []


def test_models_for_cpu_and_gpu_serve_together(demo_checkpoint: Path, tmp_path: Path) -> None:
    for target, suffix in (("cpu", ""), ("gpu", "_on_gpu")):
        ended = run_export(demo_checkpoint, "--repository", tmp_path, "--target", target, "--name-suffix", suffix)
        assert ended.returncode == 0, ended.stderr
    assert check_repository(tmp_path) == []
    name = demo_checkpoint.stem
    sizes = {path.name: read_model_config(path).max_batch_size for path in tmp_path.iterdir()}
    assert (sizes[f"{name}_encoder"], sizes[f"{name}_on_gpu_encoder"]) == (16, 64)
    # What both use has one configuration, whatever comes last; features are tuned for the target.
    assert sizes["audio"] == 16
    assert sorted(size for stage, size in sizes.items() if stage.startswith("mel_")) == [16, 64]


def test_no_part_of_a_model_has_a_name_that_another_could_get(
    checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    for architecture in ("quartznet", "contextnet"):
        checkpoint = open_checkpoint(str(checkpoint_file(architecture, NEW_NEMO)))
        write_recognizer(tmp_path / architecture, checkpoint, Serving(decoder_device="gpu"))
        parts = [model.name for model in (tmp_path / architecture).iterdir() if model.name != checkpoint.name]
        assert len(parts) >= 5
        for part in parts:
            with pytest.raises(ExportError, match=f"can't be called {part}"):
                recognizer_name(part)


def test_a_model_that_users_of_its_stages_do_not_fit(
    checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """An ensemble of somebody's own has steps of ours, whose tensors change."""
    file = tmp_path / "model.nemo"
    file.write_bytes(checkpoint_file("quartznet", NEW_NEMO).read_bytes())
    export(str(file), tmp_path / "repository", Serving(), FEW)
    shutil.copytree(tmp_path / "repository" / "model", tmp_path / "repository" / "own")
    config = tmp_path / "repository" / "own" / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "model"', 'name: "own"', 1))
    before = snapshot(tmp_path / "repository")
    file.write_bytes(checkpoint_file("citrinet", NEW_NEMO).read_bytes())
    with pytest.raises(ExportError, match="does not fit the repository: own: "):
        export(str(file), tmp_path / "repository", Serving(), FEW)
    assert snapshot(tmp_path / "repository") == before


def test_what_an_export_replaces(checkpoint_file: Callable[[str, str], Path], tmp_path: Path) -> None:
    file, repository = tmp_path / "model.nemo", tmp_path / "repository"

    def exported(architecture: str, precision: Precision = FP32) -> str:
        file.write_bytes(checkpoint_file(architecture, NEW_NEMO).read_bytes())
        return export(str(file), repository, Serving(), FEW, precision=precision)

    assert "replaced" not in exported("quartznet", Precision("fp16", 1))
    assert exported("quartznet").endswith("; replaced model (fp16)")
    assert exported("jasper").endswith("; replaced model (fp32, from another checkpoint)")
    before = snapshot(repository)
    with pytest.raises(ExportError) as refusal:
        exported("contextnet")
    assert str(refusal.value) == (
        f"{file}: model is there already, from another checkpoint (EncDecCTCModel): export to another repository or "
        "give it another name by --name-suffix"
    )
    assert snapshot(repository) == before


@pytest.mark.parametrize("architecture", ["citrinet", "conformer_transducer"])
def test_a_decoder_for_a_gpu_leaves_the_text_to_a_stage_on_the_cpu(
    architecture: str, checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(str(checkpoint_file(architecture, NEW_NEMO)))
    name = checkpoint.name
    folders = {"cpu": tmp_path / "cpu", "gpu": tmp_path / "gpu"}
    write_recognizer(folders["cpu"], checkpoint, Serving(max_batch_size=8))
    write_recognizer(folders["gpu"], checkpoint, Serving(max_batch_size=8, decoder_device="gpu"))
    parity = verify(checkpoint, folders["gpu"], FEW)
    assert parity.texts_equal + parity.texts_tied == parity.texts_compared == 3 * len(FEW.signals)
    assert check_repository(folders["gpu"]) == []

    whole, split = ({model.name: read_model_config(model) for model in folder.iterdir()} for folder in folders.values())
    assert set(split) == {*whole, f"{name}_text"}
    decoder, text = split[f"{name}_decoder"], split[f"{name}_text"]
    assert decoder.instance_group[0].kind == triton.ModelInstanceGroup.KIND_AUTO
    assert text.instance_group[0].kind == triton.ModelInstanceGroup.KIND_CPU
    assert [output.name for output in decoder.output][:3] == ["TOKENS", "FRAMES", "TOKENS_LENGTH"]
    assert [(tensor.name, tensor.allow_ragged_batch) for tensor in text.input] == [
        ("PIECES", True),
        ("PIECES_LENGTH", False),
    ]
    assert text.batch_input[0].kind == triton.BatchInput.BATCH_ITEM_SHAPE
    ensembles = [model for model, config in whole.items() if config.platform == "ensemble"]
    assert len(ensembles) == (2 if architecture == "citrinet" else 1)
    for ensemble in ensembles:
        before, after = whole[ensemble], split[ensemble]
        steps = [step.model_name for step in before.ensemble_scheduling.step]
        assert [step.model_name for step in after.ensemble_scheduling.step] == [*steps, f"{name}_text"]
        assert (after.input, after.output, after.parameters) == (before.input, before.output, before.parameters)

    signals = [*FEW.signals, np.zeros(0, np.int16)]
    results = [Runner(folder, name).run(signals) for folder in folders.values()]
    for expected, actual in zip(*results, strict=True):
        for tensor in ("TEXT", "TOKENS", "FRAMES", "TOKENS_LENGTH"):
            assert actual[tensor].dtype == expected[tensor].dtype
            np.testing.assert_array_equal(actual[tensor], expected[tensor])


def test_the_text_stage_of_an_earlier_export_is_named_where_the_new_one_has_none(
    checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file = checkpoint_file("quartznet", NEW_NEMO)
    text = f"{file.stem}_text"
    lines = []
    for device in ("gpu", "gpu", "cpu"):
        lines.append(export(str(file), tmp_path, Serving(decoder_device=device), FEW))
        assert (tmp_path / text).exists() and check_repository(tmp_path) == []
    assert not any("no longer used" in line for line in lines[:2])
    assert lines[2].endswith(f"; {text}, of an earlier export, is no longer used and can be deleted")
    shutil.rmtree(tmp_path / text)
    assert check_repository(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"preprocessor": {"sample_rate": 8000, "window_size": 0.04}}, "preprocessor.sample_rate is 8000; only 16000"),
        ({"preprocessor": {"normalize": "fixed"}}, "preprocessor.normalize is fixed; known: per_feature, all_features"),
        ({"preprocessor": {"exact_pad": True}}, "preprocessor.exact_pad is true"),
    ],
)
def test_a_config_that_cannot_be_kept_faithfully(
    changes: dict[str, dict[str, object]],
    complaint: str,
    checkpoint_file: Callable[[str, str], Path],
    tmp_path: Path,
) -> None:
    file = tmp_path / "changed.nemo"
    file.write_bytes(checkpoint_file("quartznet", NEW_NEMO).read_bytes())
    config = read_config(file)
    rewrite_config(file, **{part: {**config[part], **change} for part, change in changes.items()})
    with pytest.raises(ExportError, match=complaint):
        export(str(file), tmp_path / "repository", Serving(), PROBES)


def test_a_checkpoint_that_decodes_by_beam_gives_nemos_greedy_text(
    checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "beam.nemo"
    file.write_bytes(checkpoint_file("conformer_transducer", NEW_NEMO).read_bytes())
    rewrite_config(file, decoding={"strategy": "beam", "beam": {"beam_size": 2}, "greedy": {"max_symbols": None}})
    export(str(file), tmp_path / "repository", Serving(), FEW)
    assert (tmp_path / "repository" / "beam" / "1" / "parity.json").exists()


@pytest.mark.parametrize("kind", ["none", "empty", "text"])
def test_probes_of_another_kind(kind: str, tmp_path: Path) -> None:
    if kind == "text":
        (tmp_path / "probe.flac").write_text("no audio")
    elif kind == "empty":
        soundfile.write(tmp_path / "probe.wav", np.zeros(0, np.int16), 16000)
    result = run_export("any.nemo", "--repository", tmp_path / "repository", "--probes", tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}")
    assert not (tmp_path / "repository").exists()


def test_exporting_again_gives_the_same_bytes(checkpoint_file: Callable[[str, str], Path], tmp_path: Path) -> None:
    file = checkpoint_file("citrinet", OLD_NEMO)
    export(str(file), tmp_path, Serving(), PROBES)
    first = snapshot(tmp_path)
    export(str(file), tmp_path, Serving(), PROBES)
    assert snapshot(tmp_path) == first


def test_a_model_that_is_not_nemos_is_not_published(
    checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(str(checkpoint_file("quartznet", NEW_NEMO)))
    with pytest.raises(ParityError, match="NeMo has"), publishing(tmp_path / "repository") as folder:
        write_recognizer(folder, checkpoint, Serving())
        with torch.no_grad():
            checkpoint.model.decoder.decoder_layers[0].bias.add_(torch.linspace(-8, 8, 29))
        verify(checkpoint, folder, FEW)
    assert not (tmp_path / "repository").exists()


@pytest.fixture(scope="session")
def bad_checkpoints(
    checkpoint_file: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.nemo").write_text("no tar archive")
    with tarfile.open(folder / "other.nemo", "w") as archive:
        archive.addfile(tarfile.TarInfo("weights.ckpt"), io.BytesIO())
    whole = checkpoint_file("quartznet", NEW_NEMO).read_bytes()
    (folder / "torn.nemo").write_bytes(whole[: len(whole) // 2])
    (folder / "classifier.nemo").write_bytes(whole)
    rewrite_config(folder / "classifier.nemo", target="nemo.collections.asr.models.EncDecClassificationModel")
    return {path.stem: path for path in folder.iterdir()} | {"missing": folder / "missing.nemo", "folder": folder}


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder; name a .nemo file in it"),
        ("text", "not a NeMo checkpoint"),
        ("other", "holds no model_config.yaml"),
        ("torn", "not a NeMo checkpoint|NeMo can't restore it"),
        ("classifier", "is of EncDecClassificationModel; can be exported: EncDecCTCModel, "),
    ],
)
def test_a_bad_checkpoint_costs_one_line(
    kind: str, complaint: str, bad_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("untouched")
    result = run_export(bad_checkpoints[kind], "--repository", tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {bad_checkpoints[kind]}: ")
    assert any(words in line for words in complaint.split("|"))
    assert snapshot(tmp_path) == {"kept": b"untouched"}


def test_a_bad_checkpoint_does_not_cost_the_good_one(
    bad_checkpoints: dict[str, Path], checkpoint_file: Callable[[str, str], Path], tmp_path: Path
) -> None:
    good = checkpoint_file("quartznet", NEW_NEMO)
    result = run_export(bad_checkpoints["text"], good, "--repository", tmp_path / "repository")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout.startswith(f"{good.stem}: 39/39 texts equal NeMo's")
    assert check_repository(tmp_path / "repository") == []


def test_a_class_of_model_that_nvidia_published(tmp_path: Path) -> None:
    marblenet = SHARED / "nemo" / "vad_multilingual_marblenet.nemo"
    if not marblenet.exists():
        pytest.skip(f"no checkpoint at {marblenet}")
    result = run_export(marblenet, "--repository", tmp_path / "repository")
    assert result.returncode == 2
    assert "ClassificationModel; can be exported: " in result.stderr
    assert not (tmp_path / "repository").exists()


def test_a_repository_that_cannot_be_written(demo_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run_export(demo_checkpoint, "--repository", tmp_path / "file" / "repository")
    assert result.returncode == 2
    assert result.stderr == f"error: {tmp_path / 'file' / 'repository'}: Not a directory; nothing was published\n"


def test_a_full_disk_leaves_the_repository_as_it_was(demo_checkpoint: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        (disk / "kept").write_text("untouched")
        result = run_export(demo_checkpoint, "--repository", disk)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {disk}")
        assert "No space left on device" in line
        assert snapshot(disk) == {"kept": b"untouched"}
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(demo_checkpoint: Path, tmp_path: Path, number: signal.Signals) -> None:
    arguments = [demo_checkpoint, "--repository", tmp_path / "repository"]
    command = [sys.executable, "export_scripts/export.py", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".repository.export-*/new/*_encoder")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"interrupted: {demo_checkpoint} is in the repository as a whole or not at all\n"
    assert list(tmp_path.iterdir()) == []


def test_a_pretrained_name_that_nemo_does_not_know(tmp_path: Path) -> None:
    result = run_export("stt_en_no_such_model", "--repository", tmp_path / "repository")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: stt_en_no_such_model: ")
    assert not (tmp_path / "repository").exists()


def test_a_python_without_the_exports_packages_is_told_the_environment() -> None:
    # -S: this Python without what is installed.
    command = [sys.executable, "-S", "export_scripts/export.py", "--list"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: there is no module click in this Python; activate the environment for exports"
    )
    assert done.stderr.count("\n") == 1
