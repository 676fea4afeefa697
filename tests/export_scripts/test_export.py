"""Exports of every architecture, compared with NeMo, and how they share a repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from architectures import NEW_NEMO, OLD_NEMO
from feeds import names
from fixture_types import CheckpointFile, ExportOnce, OpenCheckpoint
from locations import DEMO_CHECKPOINT
from snapshots import snapshot
from tiny_models import read_config, rewrite_config
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.chain import write_recognizer
from export_scripts.checkpoints.checkpoint import open_checkpoint
from export_scripts.checkpoints.families import RnntDecoder
from export_scripts.checkpoints.names import recognizer_name
from export_scripts.errors import ExportError, ParityError
from export_scripts.export_checkpoint import ExportSettings, export_checkpoint
from export_scripts.operators.tuning import Target
from export_scripts.precision.choice import FP32, Precision
from export_scripts.recordings import read_recordings
from export_scripts.repository.config import Serving
from export_scripts.repository.config import read_config as read_model_config
from export_scripts.repository.publish import publishing
from export_scripts.repository.validate import check_repository
from export_scripts.stages.rnnt_decoder import TOO_MANY_SYMBOLS
from export_scripts.verify.local_ensemble import LocalEnsemble, StageError
from export_scripts.verify.parity import verify
from export_scripts.verify.probes import Probes, read_probes
from nemo_triton.audio import as_float
from nemo_triton.contract import FLOAT_AUDIO, PIECES, SAMPLE_RATE, TARGET_SUFFIXES, TEXT, TRANSCRIPT, Part

FEW = Probes(read_probes(None).recordings.first(3))


def export(file: Path, repository: Path, serving: Serving | None = None, precision: Precision = FP32) -> str:
    """Export and compare on a few recordings, which is enough for tests of repositories."""
    settings = ExportSettings(repository=repository, serving=serving or Serving(), probes=FEW, precision=precision)
    return export_checkpoint(str(file), settings)


@pytest.mark.parametrize(("nemo_version", "target"), [(OLD_NEMO, "cpu"), (NEW_NEMO, "cpu"), (NEW_NEMO, "gpu")])
def test_every_architecture_gives_nemos_text(
    architecture: str, nemo_version: str, target: Target, exported: ExportOnce
) -> None:
    repository, name = exported(architecture, nemo_version, target)
    parity = json.loads((repository / name / "1" / "parity.json").read_text())
    assert parity["texts_equal"] + parity["texts_tied"] == parity["texts_compared"] == 3 * parity["probes"]
    assert parity["texts_tied"] <= 2
    assert parity["characters"] > 20 * parity["probes"]
    assert parity["features_difference"] < 2e-3
    assert parity["scores_difference"] < 1e-2
    assert parity["scores_difference_in_batches"] < 1e-2
    assert check_repository(repository) == []
    assert all(list(version.iterdir()) for version in repository.glob("*/1")), (
        "version folders must not be empty: git and object stores drop empty folders"
    )


def test_models_with_one_front_end_share_its_stage(exported: ExportOnce) -> None:
    for architecture, nemo_version in (("quartznet", NEW_NEMO), ("jasper", NEW_NEMO), ("quartznet", OLD_NEMO)):
        repository, _ = exported(architecture, nemo_version, "cpu")
    names = [path.name.removesuffix(FLOAT_AUDIO.suffix) for path in repository.glob("mel_64_*")]
    stages = [name for name in names if not name.endswith(TARGET_SUFFIXES["gpu"])]
    expected = ["mel_64_20ms_reflect", "mel_64_20ms_zero"]
    assert sorted(name.rpartition("_")[0] for name in stages) == sorted(expected * 2), "for 16-bit and float samples"


def test_models_exported_with_different_settings_serve_together(checkpoint: OpenCheckpoint, tmp_path: Path) -> None:
    for architecture, size in (("quartznet", 16), ("jasper", 1)):
        with publishing(tmp_path) as folder:
            write_recognizer(folder, checkpoint(architecture), Serving(max_batch_size=size))
    assert check_repository(tmp_path) == []


def test_names_of_parts_are_reserved(checkpoint: OpenCheckpoint, tmp_path: Path) -> None:
    for architecture in ("quartznet", "contextnet"):
        opened = checkpoint(architecture)
        write_recognizer(tmp_path / architecture, opened, Serving(decoder_device="gpu"))
        parts = [model.name for model in (tmp_path / architecture).iterdir() if model.name != opened.name]
        assert len(parts) >= 5
        for part in parts:
            with pytest.raises(ExportError, match=f"can't be called {part}"):
                recognizer_name(part)


def test_an_export_that_other_ensembles_do_not_fit(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    """A user's ensemble has stages of the export, whose tensors would change."""
    file = tmp_path / "model.nemo"
    file.write_bytes(checkpoint_file("quartznet", NEW_NEMO).read_bytes())
    export(file, tmp_path / "repository")
    shutil.copytree(tmp_path / "repository" / "model", tmp_path / "repository" / "own")
    config = tmp_path / "repository" / "own" / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "model"', 'name: "own"', 1))
    before = snapshot(tmp_path / "repository")
    file.write_bytes(checkpoint_file("citrinet", NEW_NEMO).read_bytes())
    with pytest.raises(ExportError, match=r"does not fit the repository \(own: "):
        export(file, tmp_path / "repository")
    assert snapshot(tmp_path / "repository") == before


def test_the_result_line_names_a_replaced_model(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    file, repository = tmp_path / "model.nemo", tmp_path / "repository"

    def exported(architecture: str, precision: Precision = FP32) -> str:
        file.write_bytes(checkpoint_file(architecture, NEW_NEMO).read_bytes())
        return export(file, repository, precision=precision)

    assert "replaced" not in exported("quartznet", Precision("fp16", 1))
    assert exported("quartznet").endswith("; replaced model (fp16)")
    assert exported("jasper").endswith("; replaced model (fp32, from another checkpoint)")
    before = snapshot(repository)
    with pytest.raises(ExportError) as refusal:
        exported("contextnet")
    assert str(refusal.value) == (
        f"{file}: the repository has a model of another class (EncDecCTCModel); add a --name-suffix or export to "
        "another repository"
    )
    assert snapshot(repository) == before


@pytest.mark.parametrize("architecture", ["citrinet", "conformer_transducer"])
def test_with_the_decoder_on_a_gpu_a_cpu_stage_writes_the_text(
    architecture: str, checkpoint: OpenCheckpoint, tmp_path: Path
) -> None:
    opened = checkpoint(architecture)
    name = opened.name
    folders = {"cpu": tmp_path / "cpu", "gpu": tmp_path / "gpu"}
    write_recognizer(folders["cpu"], opened, Serving(max_batch_size=8))
    write_recognizer(folders["gpu"], opened, Serving(max_batch_size=8, decoder_device="gpu"))
    parity = verify(opened, opened.name, folders["gpu"], FEW)
    assert parity.texts_equal + parity.texts_tied == parity.texts_compared == 3 * len(FEW.signals)
    assert check_repository(folders["gpu"]) == []

    whole, split = ({model.name: read_model_config(model) for model in folder.iterdir()} for folder in folders.values())
    assert set(split) == {*whole, Part.TEXT.of(name)}
    decoder, text = split[Part.DECODER.of(name)], split[Part.TEXT.of(name)]
    assert decoder.instance_group[0].kind == triton.ModelInstanceGroup.KIND_AUTO
    assert text.instance_group[0].kind == triton.ModelInstanceGroup.KIND_CPU
    assert [output.name for output in decoder.output][:3] == names(TRANSCRIPT[1:])
    assert [(tensor.name, tensor.allow_ragged_batch) for tensor in text.input] == [
        (PIECES.name, True),
        (PIECES.length.name, False),
    ]
    assert text.batch_input[0].kind == triton.BatchInput.BATCH_ITEM_SHAPE
    ensembles = [model for model, config in whole.items() if config.platform == "ensemble"]
    assert len(ensembles) == (4 if architecture == "citrinet" else 2)
    for ensemble in ensembles:
        before, after = whole[ensemble], split[ensemble]
        steps = [step.model_name for step in before.ensemble_scheduling.step]
        assert [step.model_name for step in after.ensemble_scheduling.step] == [*steps, Part.TEXT.of(name)]
        assert (after.input, after.output, after.parameters) == (before.input, before.output, before.parameters)

    signals = [*FEW.signals, np.zeros(0, np.int16)]
    results = [LocalEnsemble(folder, name).run(signals) for folder in folders.values()]
    for expected, actual in zip(*results, strict=True):
        for tensor in names(TRANSCRIPT):
            assert actual[tensor].dtype == expected[tensor].dtype
            np.testing.assert_array_equal(actual[tensor], expected[tensor])


def test_the_result_line_names_an_unused_text_stage(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    file = checkpoint_file("quartznet", NEW_NEMO)
    text = Part.TEXT.of(file.stem)
    lines = []
    for device in ("gpu", "gpu", "cpu"):
        lines.append(export(file, tmp_path, Serving(decoder_device=device)))
        assert (tmp_path / text).exists() and check_repository(tmp_path) == []
    assert not any("can be deleted" in line for line in lines[:2])
    assert lines[2].endswith(f"; {text} is left from an earlier export and can be deleted")
    shutil.rmtree(tmp_path / text)
    assert check_repository(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"preprocessor": {"sample_rate": 8000, "window_size": 0.04}}, "preprocessor.sample_rate is 8000; only 16000"),
        ({"preprocessor": {"normalize": "fixed"}}, "preprocessor.normalize is fixed; only per_feature, all_features"),
        ({"preprocessor": {"exact_pad": True}}, "preprocessor.exact_pad is true"),
    ],
)
def test_a_config_that_cannot_be_exported(
    changes: dict[str, dict[str, object]],
    complaint: str,
    checkpoint_file: CheckpointFile,
    tmp_path: Path,
) -> None:
    file = tmp_path / "changed.nemo"
    file.write_bytes(checkpoint_file("quartznet", NEW_NEMO).read_bytes())
    config = read_config(file)
    rewrite_config(file, **{part: {**config[part], **change} for part, change in changes.items()})
    with pytest.raises(ExportError, match=complaint):
        export(file, tmp_path / "repository")


def test_a_beam_search_checkpoint_gives_nemos_greedy_text(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    file = tmp_path / "beam.nemo"
    file.write_bytes(checkpoint_file("conformer_transducer", NEW_NEMO).read_bytes())
    rewrite_config(file, decoding={"strategy": "beam", "beam": {"beam_size": 2}, "greedy": {"max_symbols": None}})
    export(file, tmp_path / "repository")
    assert (tmp_path / "repository" / "beam" / "1" / "parity.json").exists()


def test_a_checkpoint_without_limit_whose_blank_never_wins(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    file = tmp_path / "endless.nemo"
    file.write_bytes(checkpoint_file("conformer_transducer", NEW_NEMO).read_bytes())
    rewrite_config(file, decoding={"strategy": "greedy_batch", "greedy": {"max_symbols": None}})
    checkpoint = open_checkpoint(str(file))
    decoder = checkpoint.decoder
    assert isinstance(decoder, RnntDecoder)
    decoder.weights.output.bias[-1] = -1000
    with torch.no_grad():
        checkpoint.model.joint.joint_net[-1].bias[-1] = -1000
    write_recognizer(tmp_path, checkpoint, Serving())
    with pytest.raises(ParityError, match=f"^endless: probe 0 unbatched: endless_decoder: .*{TOO_MANY_SYMBOLS}"):
        verify(checkpoint, checkpoint.name, tmp_path, FEW)

    ensemble = LocalEnsemble(tmp_path, "endless")
    nothing, speech = np.zeros(0, np.int16), FEW.signals[0]
    assert [item[TEXT.name].item() for item in ensemble.run([nothing, nothing])] == ["", ""]
    for batch in ([speech], [nothing, speech]):
        with pytest.raises(StageError, match=TOO_MANY_SYMBOLS):
            ensemble.run(batch)


def test_exporting_again_gives_the_same_bytes(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    file = checkpoint_file("citrinet", OLD_NEMO)
    export(file, tmp_path)
    first = snapshot(tmp_path)
    export(file, tmp_path)
    assert snapshot(tmp_path) == first


def test_a_model_that_differs_from_nemo_is_not_published(checkpoint_file: CheckpointFile, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(checkpoint_file("quartznet", NEW_NEMO)))
    with (
        pytest.raises(ParityError, match=r"NeMo has .*; nothing was published, see docs/export\.md$"),
        publishing(tmp_path / "repository") as folder,
    ):
        write_recognizer(folder, checkpoint, Serving())
        with torch.no_grad():
            checkpoint.model.decoder.decoder_layers[0].bias.add_(torch.linspace(-8, 8, 29))
        verify(checkpoint, checkpoint.name, folder, FEW)
    assert not (tmp_path / "repository").exists()


def test_telephone_speech_and_a_damaged_recording_are_compared(tmp_path: Path) -> None:
    """In bands without sound NeMo's front end rounds more than the export's."""
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    speech = [as_float(signal) for signal in FEW.recordings.signals]
    soundfile.write(recordings / "a.wav", soxr.resample(speech[0], SAMPLE_RATE, 8000), 8000)
    soundfile.write(recordings / "cut.flac", speech[1], SAMPLE_RATE)
    content = (recordings / "cut.flac").read_bytes()
    (recordings / "cut.flac").write_bytes(content[: len(content) // 2])
    checkpoint = open_checkpoint(str(DEMO_CHECKPOINT))
    write_recognizer(tmp_path / "repository", checkpoint, Serving())
    parity = verify(checkpoint, checkpoint.name, tmp_path / "repository", Probes(read_recordings(recordings)))
    assert (parity.probes, parity.texts_equal) == (2, 6)
    assert (parity.exact_references, parity.recordings_read_by_nemo) == (1, 1)


def test_an_encoder_for_tensorrt_has_warm_up_files(checkpoint: OpenCheckpoint, tmp_path: Path) -> None:
    opened = checkpoint("quartznet")
    write_recognizer(tmp_path, opened, Serving(max_batch_size=8, accelerator="tensorrt"))
    assert check_repository(tmp_path) == []
    encoder = tmp_path / Part.ENCODER.of(opened.name)
    for sample in read_model_config(encoder).model_warmup:
        (file,) = {feed.input_data_file for feed in sample.inputs.values()} - {""}
        assert (encoder / "warmup" / file).stat().st_size == 4
    assert [path.name for path in tmp_path.glob("*/warmup")] == ["warmup"]


@pytest.mark.parametrize(("device", "kind"), [("cpu", "KIND_CPU"), ("gpu", "KIND_AUTO")])
def test_the_decoder_runs_on_the_chosen_device(
    device: str, kind: str, checkpoint: OpenCheckpoint, tmp_path: Path
) -> None:
    opened = checkpoint("contextnet")
    write_recognizer(tmp_path, opened, Serving(decoder_device="gpu" if device == "gpu" else "cpu"))
    decoder = read_model_config(tmp_path / Part.DECODER.of(opened.name))
    assert triton.ModelInstanceGroup.Kind.Name(decoder.instance_group[0].kind) == kind
    accelerators = decoder.optimization.execution_accelerators.gpu_execution_accelerator
    assert [accelerator.name for accelerator in accelerators] == (["cuda"] if device == "gpu" else [])
