"""Variants of a recognizer: the same transcripts, and no other changes than named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT
from tritonclient.grpc import model_config_pb2 as triton

from benchmark.baselines.recordings import shuffled_recordings
from benchmark.studies.batching.variants import encoder_per_core, equal_shapes_only, without_batcher
from benchmark.studies.variants import Change, write_variant
from export_scripts.repository.config import THREADS_PARAMETER, read_config
from export_scripts.repository.validate import check_repository
from export_scripts.verify.local_ensemble import LocalEnsemble
from nemo_triton.contract import TEXT, Part

RECORDINGS = shuffled_recordings(DEMO_MANIFEST)[:6]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(equal_shapes_only, id="equal_shapes_only"),
        pytest.param(without_batcher, id="without_batcher"),
        pytest.param(encoder_per_core, id="encoder_per_core"),
    ],
)
@pytest.mark.parametrize("model", [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem])
def test_a_variant_gives_the_same_text(repository: Path, tmp_path: Path, model: str, change: Change) -> None:
    write_variant(repository, model, tmp_path, change)
    assert check_repository(tmp_path) == []
    ours, variant = LocalEnsemble(repository, model), LocalEnsemble(tmp_path, model)
    for recording in RECORDINGS:
        (exported_item,), (variant_item,) = ours.run([recording.samples]), variant.run([recording.samples])
        assert variant_item[TEXT.name].item() == exported_item[TEXT.name].item() != ""


def configs_of(repository: Path, folder: Path, change: Change) -> dict[str, triton.ModelConfig]:
    """Configurations of the variant's stages, by name."""
    write_variant(repository, DEMO_CHECKPOINT.stem, folder, change)
    configs = [read_config(model) for model in folder.iterdir()]
    return {config.name: config for config in configs if config.platform != "ensemble"}


def test_without_ragged_inputs_no_step_has_any(repository: Path, tmp_path: Path) -> None:
    for config in configs_of(repository, tmp_path, equal_shapes_only).values():
        assert not any(tensor.allow_ragged_batch for tensor in config.input)
        assert not config.batch_input


def test_without_a_batcher_no_step_has_one(repository: Path, tmp_path: Path) -> None:
    assert not any(
        config.HasField("dynamic_batching") for config in configs_of(repository, tmp_path, without_batcher).values()
    )


def test_an_encoder_per_core_changes_the_encoder_only(repository: Path, tmp_path: Path) -> None:
    configs = configs_of(repository, tmp_path, encoder_per_core)
    encoder = configs.pop(Part.ENCODER.of(DEMO_CHECKPOINT.stem))
    assert encoder.instance_group[0].count == len(os.sched_getaffinity(0))
    assert encoder.parameters[THREADS_PARAMETER].string_value == "1"
    assert all(config == read_config(repository / name) for name, config in configs.items())
