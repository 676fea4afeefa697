"""The parts of the GPU benchmark that need NeMo: packed repositories of seeded weights, and encoders in PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import NEW_NEMO, conformer
from click.testing import CliRunner
from locations import DEMO_MANIFEST
from nemo.collections.asr.modules import ConformerEncoder
from tiny_models import rewrite_config, tiny_model

from benchmark.studies.gpu import pytorch_encoder
from benchmark.studies.gpu.pack import SUFFIXES, main, pack
from benchmark.studies.gpu.stand_ins import STAND_INS
from benchmark.studies.gpu.unpack import unpack
from export_scripts.chain import write_recognizer
from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.precision.choice import Precision, PrecisionName
from export_scripts.recordings import read_recordings
from export_scripts.repository.config import Serving
from export_scripts.verify.local_ensemble import LocalEnsemble
from nemo_triton.contract import LOG_PROBS, TEXT, Part
from verification.full_size import seeded
from verification.full_size.random_weights import draw_weights

COMMANDS = read_recordings(DEMO_MANIFEST).signals[:3]


@pytest.fixture(autouse=True)
def small_weights_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeded, "SMALLEST", 256)


def seeded_checkpoint(architecture: str, folder: Path) -> Path:
    model = tiny_model(architecture, NEW_NEMO)
    draw_weights(model.encoder)
    file = folder / f"tiny_{architecture}.nemo"
    model.save_to(str(file))
    rewrite_config(file, nemo_version=NEW_NEMO)
    return file


@pytest.mark.parametrize(
    ("architecture", "precision"), [("conformer", "fp32"), ("conformer", "fp16"), ("citrinet", "fp32")]
)
def test_an_unpacked_model_gives_the_log_probs_of_a_normal_export(
    architecture: str, precision: PrecisionName, tmp_path: Path
) -> None:
    file = seeded_checkpoint(architecture, tmp_path)
    packed, unpacked, exported = (tmp_path / name for name in ("packed", "unpacked", "exported"))
    pack(file, packed, precision=precision, target="cpu")
    for folder in packed.iterdir():
        assert unpack(folder, unpacked / folder.name)
    checkpoint = open_checkpoint(str(file), SUFFIXES[precision])
    write_recognizer(exported, checkpoint, Serving(), Precision(precision, 0.0))
    assert {folder.name for folder in unpacked.iterdir()} == {folder.name for folder in exported.iterdir()}
    encoder = Path(Part.ENCODER.of(checkpoint.name), "1")
    large = sum(seeded.is_drawn(weight.shape) for weight in checkpoint.model.encoder.parameters())
    assert len(json.loads((packed / encoder / STAND_INS).read_text())) > 0.9 * large > 0
    sizes = [(repository / encoder / "model.onnx").stat().st_size for repository in (packed, unpacked, exported)]
    assert sizes[0] < sizes[1] / 1.3 and sizes[1] == pytest.approx(sizes[2], rel=0.05)
    name = Part.LOG_PROBS.of(checkpoint.name)
    items = zip(*(LocalEnsemble(folder, name).run(COMMANDS) for folder in (unpacked, exported)), strict=True)
    for actual, expected in items:
        log_probs = expected[LOG_PROBS.name]
        assert np.isfinite(log_probs).all() and log_probs.shape[1] > 10
        assert np.array_equal(actual[LOG_PROBS.name], log_probs)
        assert actual[TEXT.name] == expected[TEXT.name]


def test_decoders_with_other_frames_per_step_and_an_invalid_checkpoint(tmp_path: Path) -> None:
    file = seeded_checkpoint("conformer_transducer", tmp_path)
    none = tmp_path / "none.nemo"
    none.write_text("none")
    flags = ["--out", str(tmp_path / "packed"), "--precision", "fp32", "--frames-per-step", "2"]
    result = CliRunner().invoke(
        main, [str(none), str(tmp_path / "nope.nemo"), str(file), *flags], standalone_mode=False
    )
    assert result.return_value == 2 and result.exception is None
    errors = result.stderr.splitlines()
    assert len(errors) == 2 and all(line.startswith("error: ") for line in errors)
    assert (tmp_path / "packed" / f"{Part.DECODER.of(file.stem)}.2" / "1" / "model.onnx").exists()
    assert not list((tmp_path / "packed").glob(".*"))


def test_encoders_in_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build, settings = pytorch_encoder.build_encoder, conformer(80)
    del settings["_target_"]

    def tiny_or_unknown(name: str) -> Any:
        return ConformerEncoder(**settings) if name == "tiny" else build(name)

    monkeypatch.setattr(pytorch_encoder, "build_encoder", tiny_or_unknown)
    monkeypatch.setattr(pytorch_encoder, "machine_rates", lambda device: {})
    monkeypatch.setattr(pytorch_encoder, "batch_lengths", lambda size, number: [0.5 + number] * size)
    # A bfloat16 product takes seconds on most CPUs.
    monkeypatch.setattr(pytorch_encoder, "AUTOCAST", {"fp32": None})
    out = tmp_path / "pytorch.json"
    flags = ["--batch", "2", "--batch", "1", "--batches", "2", "--seconds", "0.01", "--out", str(out)]
    result = CliRunner().invoke(pytorch_encoder.main, ["nope", "tiny", *flags], standalone_mode=False)
    assert result.exception is None and result.return_value == 2
    (error,) = result.stderr.splitlines()
    assert error.startswith("error: nope: no such architecture; choose from: ") and "parakeet-ctc-0.6b" in error
    models = json.loads(out.read_text())["models"]
    assert "error" in models["nope"] and list(models["tiny"]) == ["fp32"]
    for rows in models["tiny"].values():
        assert list(rows) == ["1", "2"]
        assert all(row[kind]["rtfx"] > 0 for row in rows.values() for kind in ("first", "repeat", "alternating"))
    slow = CliRunner().invoke(pytorch_encoder.main, ["tiny", *flags, "--slowest", "0.000001"], standalone_mode=False)
    assert slow.return_value == 0
    rows = json.loads(out.read_text())["models"]["tiny"]["fp32"]
    assert "--slowest" in rows["1"]["stopped"] and rows["2"] == {"skipped": "batch 1 was too slow"}
