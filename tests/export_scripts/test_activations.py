"""The memory that a model needs per second of audio, and the limit of its audio."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixture_types import OpenCheckpoint

from export_scripts.chain import write_recognizer
from export_scripts.checkpoints.activations import measure_activations
from export_scripts.repository.config import Serving, read_config
from export_scripts.repository.validate import check_repository
from nemo_triton.contract import Description, Part

FLOAT = 4


def test_the_largest_layer_of_a_conformer_is_in_its_subsampling(checkpoint: OpenCheckpoint) -> None:
    opened = checkpoint("conformer_transducer")
    encoder, front_end = opened.model.encoder, opened.front_end
    channels = encoder.pre_encode.conv[0].out_channels
    first = channels * front_end.frame_rate / 2 * front_end.mels / 2 * FLOAT
    activations = measure_activations(opened)
    assert first < activations.largest_layer < 2 * first
    joint = opened.decoder.weights.joint_size  # type: ignore[attr-defined]
    assert activations.scores == pytest.approx(
        joint * front_end.frame_rate / encoder.subsampling_factor * FLOAT, rel=0.1
    )


def test_every_architecture_has_a_size(architecture: str, checkpoint: OpenCheckpoint) -> None:
    activations = measure_activations(checkpoint(architecture))
    assert activations.largest_layer > activations.scores > 0


@pytest.mark.parametrize(("chosen", "stage"), [(None, "audio"), (600, "audio_600s")])
def test_the_limit_is_a_stage_and_a_parameter(
    chosen: int | None, stage: str, checkpoint: OpenCheckpoint, tmp_path: Path
) -> None:
    opened = checkpoint("quartznet")
    write_recognizer(tmp_path, opened, replace(Serving(), max_audio_seconds=chosen))
    assert check_repository(tmp_path) == []
    for name in (opened.name, Part.LOG_PROBS.of(opened.name)):
        config = read_config(tmp_path / name)
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        description = Description.of(parameters)
        assert description.max_audio_seconds == (chosen or 1200)
        assert 5e8 < description.shared_memory_bytes + 5e8 < description.memory_bytes < 8 * 2**30
        assert config.ensemble_scheduling.step[0].model_name == stage
