"""The export command: options, errors and interruption."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from architectures import NEW_NEMO
from command import invoke_export, run_export
from fixture_types import CheckpointFile
from hostile_checkpoints import RunsCommand, weights, with_weights
from locations import ROOT, SHARED
from snapshots import snapshot
from tiny_models import rewrite_config
from waiting import wait_until

from export_scripts.repository.config import read_config
from export_scripts.repository.validate import check_repository
from nemo_triton.contract import AUDIO_STAGE, Part


def test_models_for_cpu_and_gpu_serve_together(demo_checkpoint: Path, tmp_path: Path) -> None:
    for target, suffix in (("cpu", ""), ("gpu", "_on_gpu")):
        ended = invoke_export(demo_checkpoint, "--repository", tmp_path, "--target", target, "--name-suffix", suffix)
        assert ended.exit_code == 0, ended.stderr
    assert check_repository(tmp_path) == []
    name = demo_checkpoint.stem
    sizes = {path.name: read_config(path).max_batch_size for path in tmp_path.iterdir()}
    assert (sizes[Part.ENCODER.of(name)], sizes[Part.ENCODER.of(f"{name}_on_gpu")]) == (8, 64)
    # The shared audio stage has the same configuration in both; features are tuned for the target.
    assert sizes[AUDIO_STAGE] == 8
    assert sorted(size for stage, size in sizes.items() if stage.startswith("mel_")) == [8, 8, 64, 64]


@pytest.mark.parametrize("kind", ["none", "empty", "text"])
def test_probes_that_cannot_be_used(kind: str, tmp_path: Path) -> None:
    if kind == "text":
        (tmp_path / "probe.flac").write_text("no audio")
    elif kind == "empty":
        soundfile.write(tmp_path / "probe.wav", np.zeros(0, np.int16), 16000)
    result = invoke_export("any.nemo", "--repository", tmp_path / "repository", "--probes", tmp_path)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}")
    assert not (tmp_path / "repository").exists()


def test_a_damaged_probe_is_said(tmp_path: Path) -> None:
    probe = tmp_path / "probe.wav"
    soundfile.write(probe, np.ones(16000, np.int16), 16000)
    probe.write_bytes(probe.read_bytes()[:20000])
    arguments = ["any.nemo", "--repository", str(tmp_path / "repository"), "--probes", str(tmp_path)]
    command = [sys.executable, str(ROOT / "export_scripts" / "export.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    warning, error = done.stderr.splitlines()
    assert warning.startswith(f"warning: {probe}: its header says 32,000 bytes of samples, but there are 19,956; ")
    assert error.startswith("error: any.nemo: ") and done.returncode == 2


@pytest.mark.parametrize("option", ["--probes", "--lengths"])
def test_a_damaged_mp3_is_one_line(option: str, tmp_path: Path) -> None:
    probe = tmp_path / "probe.mp3"
    samples = np.random.default_rng(0).normal(scale=3000, size=64000).astype(np.int16)
    soundfile.write(probe, samples, 16000, format="MP3")
    probe.write_bytes(probe.read_bytes()[: probe.stat().st_size // 2])
    result = run_export(tmp_path / "any.nemo", "--repository", tmp_path / "repository", option, tmp_path)
    damaged, missing = result.stderr.splitlines()
    assert damaged.startswith(f"warning: {probe}: its header says")
    assert missing.startswith(f"error: {tmp_path / 'any.nemo'}: ")


@pytest.fixture(scope="session")
def bad_checkpoints(checkpoint_file: CheckpointFile, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
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
        ("folder", "is a folder; give a .nemo file in it"),
        ("text", "not a NeMo checkpoint"),
        ("other", "not a NeMo checkpoint (no model_config.yaml in it)"),
        ("torn", "not a NeMo checkpoint|NeMo can't restore it"),
        ("classifier", "EncDecClassificationModel can't be exported; choose a checkpoint of EncDecCTCModel, "),
    ],
)
def test_a_bad_checkpoint_gives_one_error_line(
    kind: str, complaint: str, bad_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("untouched")
    result = invoke_export(bad_checkpoints[kind], "--repository", tmp_path)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {bad_checkpoints[kind]}: ")
    assert any(words in line for words in complaint.split("|"))
    assert snapshot(tmp_path) == {"kept": b"untouched"}


def test_a_bad_checkpoint_does_not_stop_the_next(
    bad_checkpoints: dict[str, Path], checkpoint_file: CheckpointFile, tmp_path: Path
) -> None:
    good = checkpoint_file("quartznet", NEW_NEMO)
    hostile = tmp_path / "hostile.nemo"
    hostile.write_bytes(with_weights(weights(RunsCommand())))
    result = run_export(bad_checkpoints["text"], hostile, good, "--repository", tmp_path / "repository")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 2
    assert result.stdout.startswith(f"{good.stem}: 45/45 texts equal NeMo's")
    needs = r"takes audio of up to 1200 s; 16 concurrent requests of it need \d\.\d GB of memory, \d\.\d GB of it in "
    assert re.search(rf"; {needs}/dev/shm\n", result.stdout)
    assert check_repository(tmp_path / "repository") == []


def test_a_published_model_of_another_class_is_refused(tmp_path: Path) -> None:
    marblenet = SHARED / "nemo" / "vad_multilingual_marblenet.nemo"
    if not marblenet.exists():
        pytest.skip(f"no checkpoint at {marblenet}")
    result = invoke_export(marblenet, "--repository", tmp_path / "repository")
    assert result.exit_code == 2
    assert "ClassificationModel can't be exported; choose a checkpoint of " in result.stderr
    assert not (tmp_path / "repository").exists()


def test_a_repository_that_cannot_be_written(demo_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = invoke_export(demo_checkpoint, "--repository", tmp_path / "file" / "repository")
    assert result.exit_code == 2
    assert result.stderr == f"error: {tmp_path / 'file' / 'repository'}: Not a directory; nothing was published\n"


def test_a_full_disk_leaves_the_repository_as_it_was(demo_checkpoint: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        (disk / "kept").write_text("untouched")
        result = invoke_export(demo_checkpoint, "--repository", disk)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {disk}")
        assert "No space left on device" in line
        assert snapshot(disk) == {"kept": b"untouched"}
    finally:
        subprocess.run(["umount", disk], check=True)


def is_encoder_written(folder: Path) -> bool:
    """Whether an export to a repository in this folder has written the encoder and not moved it yet."""
    try:
        return bool(list(folder.glob(".repository.export-*/new/*_encoder")))
    except FileNotFoundError:
        # The export removed a folder while it was listed.
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(demo_checkpoint: Path, tmp_path: Path, number: signal.Signals) -> None:
    arguments = [demo_checkpoint, "--repository", tmp_path / "repository"]
    command = [sys.executable, "export_scripts/export.py", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def begins() -> bool:
        assert process.poll() is None
        return is_encoder_written(tmp_path)

    wait_until(begins, interval=0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"interrupted: {demo_checkpoint} is either completely in the repository or not at all\n"
    assert list(tmp_path.iterdir()) == []


def test_a_pretrained_name_that_nemo_does_not_know(tmp_path: Path) -> None:
    result = invoke_export("stt_en_no_such_model", "--repository", tmp_path / "repository")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: stt_en_no_such_model: ")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("arguments", [("export.py", "--list"), ("check.py", ".")])
def test_a_missing_package_names_the_environment_to_activate(arguments: tuple[str, str]) -> None:
    script, argument = arguments
    # -S: this Python without installed packages.
    command = [sys.executable, "-S", f"export_scripts/{script}", argument]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: the module click is not installed in this Python; activate the environment for exp"
    )
    assert done.stderr.count("\n") == 1
