"""GPU models, utterance lengths, serving variants and the roofline: parts of the GPU benchmark that need no GPU."""

from __future__ import annotations

import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, FAMILY_REPOSITORY, RNNT_CHECKPOINT
from tritonclient.grpc import model_config_pb2 as triton

from benchmark.baselines.recordings import shuffled_recordings
from benchmark.data.dataset import MANIFEST
from benchmark.studies.gpu.gpus import GPU_MODELS, find_gpus, known_gpu, rate_of
from benchmark.studies.gpu.mixed_speech import LONGEST, SHORTEST, UTTERANCES, draw_lengths, write_mixed_speech
from benchmark.studies.gpu.roofline import NetworkCost, peak_rates, roofline, without_tf32
from benchmark.studies.gpu.variants import BASELINE, VARIANTS, Variant
from benchmark.studies.variants import write_variant
from export_scripts.errors import ExportError
from export_scripts.repository.config import read_config
from export_scripts.repository.gpu import Lengths, TensorRt
from export_scripts.repository.validate import check_repository
from export_scripts.verify.local_ensemble import LocalEnsemble
from nemo_triton.contract import AUDIO_STAGE, SAMPLE_RATE, SAMPLES, TEXT, Part
from nemo_triton.recognizer import Recognizer
from server.process import running_server

TENSORRT = TensorRt(Lengths(shortest=0.5, longest=4.0), "/engines")
BY_NAME = {variant.name: variant for variant in VARIANTS}
RECOGNIZER, ENCODER, DECODER, TEXT_STAGE = "", Part.ENCODER.value, Part.DECODER.value, Part.TEXT.value
"""Suffixes of the names of an ensemble and its parts."""


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80 GB"),
        ("NVIDIA A100-SXM4-40GB", "A100 SXM 40 GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80 GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40 GB"),
        ("NVIDIA L4", "L4"),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_gpus_are_known_by_nvidia_smis_names(name: str, chip: str | None) -> None:
    gpu = known_gpu(name)
    assert (gpu.name if gpu else None) == chip
    assert sum(bool(known_gpu(name) == known) for known in GPU_MODELS) == (chip is not None)


@pytest.mark.fast
def test_a_float32_model_may_use_tf32_if_the_gpu_has_it() -> None:
    a100, t4 = known_gpu("NVIDIA A100-SXM4-80GB"), known_gpu("Tesla T4")
    assert a100 is not None and rate_of(a100.operations, "fp32") == ("tf32", 156e12)
    assert t4 is not None and rate_of(t4.operations, "fp32") == ("fp32", 8.1e12)
    assert rate_of(t4.operations, "bf16") is None


@pytest.mark.fast
def test_gpus_are_those_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA L4'\necho 'Tesla T4'\n")
    tool.chmod(0o755)
    assert find_gpus() == ["NVIDIA L4", "Tesla T4"]
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert find_gpus() == []


@pytest.mark.fast
def test_lengths_match_librispeechs() -> None:
    lengths = draw_lengths(20 * UTTERANCES, seed=0)
    assert min(lengths) >= SHORTEST and max(lengths) <= LONGEST
    assert statistics.mean(lengths) == pytest.approx(7.42, rel=0.02)
    sets = [draw_lengths(UTTERANCES, seed) for seed in range(5)]
    assert statistics.median(map(min, sets)) == pytest.approx(SHORTEST, rel=0.25)
    assert statistics.median(map(max, sets)) == pytest.approx(LONGEST, rel=0.25)
    assert draw_lengths(50, 1) == draw_lengths(50, 1) != draw_lengths(50, 2)


@pytest.mark.fast
def test_mixed_speech_is_a_prepared_data_set(tmp_path: Path) -> None:
    mixed = write_mixed_speech(tmp_path / "a", DEMO_MANIFEST, count=12, seed=3)
    again = write_mixed_speech(tmp_path / "b", DEMO_MANIFEST, count=12, seed=3)
    other = write_mixed_speech(tmp_path / "c", DEMO_MANIFEST, count=12, seed=4)
    assert mixed.audio_sha256 == again.audio_sha256 != other.audio_sha256
    recordings = {recording.utterance.name: recording for recording in shuffled_recordings(tmp_path / "a" / MANIFEST)}
    lengths = [len(recordings[name].samples) for name in sorted(recordings)]
    assert lengths == [round(SAMPLE_RATE * length) for length in draw_lengths(12, 3)]
    pool = [recording.samples for recording in shuffled_recordings(DEMO_MANIFEST)]
    for recording in recordings.values():
        assert any(np.array_equal(recording.samples[: SAMPLE_RATE // 2], spoken[: SAMPLE_RATE // 2]) for spoken in pool)
    assert re.match(r"nemo_triton/demo_speech/manifest\.jsonl \([0-9a-f]{8}\), cut", mixed.source), (
        "no path of this machine"
    )
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*")}
    assert write_mixed_speech(tmp_path / "a", DEMO_MANIFEST, count=12, seed=3) == mixed
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*")} == before


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("model", [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem])
def test_a_variant_links_the_graphs_and_has_the_same_text(
    repository: Path, tmp_path: Path, model: str, variant: Variant
) -> None:
    source = tmp_path / "exported"
    shutil.copytree(repository, source)
    changed = tmp_path / "variant"
    write_variant(source, model, changed, variant.change_for(TENSORRT))
    assert check_repository(changed) == []
    for graph in changed.rglob("model.onnx"):
        exported = source / graph.relative_to(changed)
        new = [Part.DECODER, Part.TEXT] * variant.splits_text + [Part.ENCODER] * variant.fuses_features
        assert graph.parent.parent.name in [part.of(model) for part in new] or graph.samefile(exported)
    exported_ensemble, changed_ensemble = LocalEnsemble(source, model), LocalEnsemble(changed, model)
    for recording in shuffled_recordings(DEMO_MANIFEST)[:3]:
        (expected,) = exported_ensemble.run([recording.samples])
        (actual,) = changed_ensemble.run([recording.samples])
        assert actual[TEXT.name].item() == expected[TEXT.name].item() != ""


def configs_of(repository: Path, folder: Path, variant: Variant) -> dict[str, triton.ModelConfig]:
    """Configurations of a variant: the ensemble's by RECOGNIZER, its parts' by suffix, shared stages' by name."""
    model = RNNT_CHECKPOINT.stem
    write_variant(repository, model, folder, variant.change_for(TENSORRT))
    return {path.name.removeprefix(model): read_config(path) for path in folder.iterdir()}


def options(config: triton.ModelConfig) -> dict[str, dict[str, str]]:
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    return {accelerator.name: dict(accelerator.parameters) for accelerator in accelerators}


def test_changes_of_the_variants(repository: Path, tmp_path: Path) -> None:
    configs = {name: configs_of(repository, tmp_path / name, variant) for name, variant in BY_NAME.items()}
    base = configs[BASELINE]
    assert options(base[ENCODER])["cuda"]["use_tf32"] == "1" and not options(base[DECODER])
    assert {config.max_batch_size for config in configs["unbatched"].values()} == {1}
    assert {config.max_batch_size for config in configs["wide"].values()} == {256}
    for name, count, parts in (("two_encoders", 2, {ENCODER}), ("many_decoders", 8, {DECODER})):
        assert {stage for stage, config in configs[name].items() if config != base[stage]} == parts
        assert {configs[name][stage].instance_group[0].count for stage in parts} == {count}
    stages = [config for config in configs["two_of_each"].values() if config.instance_group]
    assert {config.instance_group[0].count for config in stages} == {2}
    fused = configs["fused_features"]
    assert base.keys() - fused.keys() == {stage for stage in base if stage.startswith("mel_")}
    assert {tensor.name for tensor in fused[ENCODER].input} == {SAMPLES.name, SAMPLES.length.name}
    assert options(fused[ENCODER])["cuda"]["use_tf32"] == "0"
    for part in ("max_batch_size", "dynamic_batching", "instance_group", "parameters"):
        assert getattr(fused[ENCODER], part) == getattr(base[ENCODER], part)
    assert configs["two_fused_encoders"][ENCODER].instance_group[0].count == 2
    assert options(configs["no_tf32"][ENCODER])["cuda"]["use_tf32"] == "0"
    assert options(configs["gpu_decoder"][DECODER])["cuda"]["use_tf32"] == "0"
    assert configs["gpu_decoder"][DECODER].instance_group[0].kind == triton.ModelInstanceGroup.KIND_AUTO
    assert list(options(configs["tensorrt"][ENCODER])) == ["tensorrt", "cuda"]
    assert [sample.name for sample in configs["tensorrt"][ENCODER].model_warmup] == ["shortest", "longest"]
    for name in ("no_tf32", "tensorrt"):
        changed = {stage for stage, config in configs[name].items() if config != base[stage]}
        assert changed == {ENCODER}
    changed = {stage for stage, config in configs["gpu_decoder"].items() if config != base.get(stage)}
    assert changed == {RECOGNIZER, DECODER, TEXT_STAGE}
    assert configs["gpu_decoder"][TEXT_STAGE].instance_group[0].kind == triton.ModelInstanceGroup.KIND_CPU
    assert configs["gpu_decoder"][TEXT_STAGE].max_batch_size == base[DECODER].max_batch_size


def test_variants_of_a_repository_exported_for_a_decoder_on_the_gpu(repository: Path, tmp_path: Path) -> None:
    """Every variant has a separate text stage; gpu_decoder equals the export."""
    write_variant(repository, RNNT_CHECKPOINT.stem, tmp_path / "exported", BY_NAME["gpu_decoder"].change_for(TENSORRT))
    for name, variant in BY_NAME.items():
        configs = configs_of(tmp_path / "exported", tmp_path / name, variant)
        assert TEXT_STAGE in configs and check_repository(tmp_path / name) == []
        on_gpu = configs[DECODER].instance_group[0].kind == triton.ModelInstanceGroup.KIND_AUTO
        assert on_gpu == (name == "gpu_decoder")
        if on_gpu:
            assert configs == configs_of(repository, tmp_path / "again", variant)


def test_the_error_for_a_decoder_that_cannot_be_split_says_what_to_do(repository: Path, tmp_path: Path) -> None:
    model = RNNT_CHECKPOINT.stem
    shutil.copytree(repository, tmp_path / "exported")
    file = tmp_path / "exported" / Part.DECODER.of(model) / "1" / "model.onnx"
    file.write_bytes((repository / AUDIO_STAGE / "1" / "model.onnx").read_bytes())
    with pytest.raises(ExportError, match=f"has no {TEXT.name}; export it again with --decoder-device gpu"):
        write_variant(tmp_path / "exported", model, tmp_path / "variant", BY_NAME["gpu_decoder"].change_for(TENSORRT))


@pytest.mark.parametrize("model", [DEMO_CHECKPOINT.stem, "tiny_conformer_transducer"])
def test_tensorrts_configuration_is_harmless_on_a_cpu(repository: Path, tmp_path: Path, model: str) -> None:
    """The real server runs the warm-up, which fails if it does not match the graph."""
    exported = repository if model == DEMO_CHECKPOINT.stem else FAMILY_REPOSITORY
    write_variant(exported, model, tmp_path / "variant", BY_NAME["tensorrt"].change_for(TENSORRT))
    ensemble, log = LocalEnsemble(exported, model), tmp_path / "log"
    with (
        running_server(tmp_path / "variant", ["--log-verbose=1"], log=log) as server,
        Recognizer(model, url=server.grpc) as recognizer,
    ):
        for recording in shuffled_recordings(DEMO_MANIFEST)[:2]:
            (expected,) = ensemble.run([recording.samples])
            assert recognizer.transcribe(recording.samples).text == expected[TEXT.name].item()
    lines = log.read_text(errors="replace").splitlines()
    for sample in ("shortest", "longest"):
        assert any(
            Part.ENCODER.of(model) in line and f"'{sample}'" in line and "warm" in line.lower() for line in lines
        )
    assert not any("warmup" in line and "fail" in line for line in lines)


@pytest.mark.fast
def test_the_roofline_by_hand() -> None:
    cost = NetworkCost(operations=(0.0, 3e9, 0.0), elements=(0.0, 1e6, 0.0), weights=5_000_000)
    rates: dict[str, Any] = {"operations": {"tf32": 1e12, "fp32": 1e11, "fp16": 2e12}, "bytes": 1e9}
    # 10 s of audio: 30 G operations in 0.03 s; (10 M + 2 * 5 M) numbers of 4 bytes in 0.08 s.
    limit = roofline(cost, [4.0, 6.0], batches=2, precision="fp32", rates=rates)
    assert limit is not None and limit["format"] == "tf32" and limit["limit"] == "bytes"
    assert limit["rtfx"] == pytest.approx(10 / 0.08)
    assert limit["computing_seconds"] == pytest.approx(0.03) and limit["moving_seconds"] == pytest.approx(0.08)
    fp16 = roofline(cost, [4.0, 6.0], batches=2, precision="fp16", rates={**rates, "bytes": 1e10})
    assert fp16 is not None and fp16["limit"] == "operations" and fp16["rtfx"] == pytest.approx(10 / 0.015)
    assert roofline(cost, [4.0], batches=1, precision="int8", rates=rates) is None
    exact = roofline(cost, [4.0, 6.0], batches=2, precision="fp32", rates=without_tf32(rates))
    assert exact is not None and exact["format"] == "fp32" and exact["rtfx"] == pytest.approx(10 / 0.3)


@pytest.mark.fast
def test_rates_are_from_a_data_sheet_or_measured() -> None:
    measured = {"operations": {"fp32": 4e10, "bf16": 1e9}, "bytes": 1e10, "torch": "2", "device": "CPU"}
    sheet = peak_rates(["NVIDIA L4"], measured)
    assert sheet is not None and sheet["chip"] == "L4" and sheet["bytes"] == 300e9
    fallback = peak_rates([], measured)
    assert fallback is not None and fallback["operations"] == {"fp32": 4e10, "bf16": 4e10}, "bf16 can be converted"
    assert peak_rates([], None) is None
