"""Instances, threads and batching in the configurations of stages."""

from __future__ import annotations

import pytest
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.repository.config import THREADS_PARAMETER, Serving, Stage, stage_config
from export_scripts.stages.audio import audio_graph
from nemo_triton.contract import AUDIO_STAGE

pytestmark = pytest.mark.fast


def instances_and_threads(config: triton.ModelConfig) -> tuple[int, str | None]:
    """Number of instances, and onnxruntime's threads if the configuration sets them."""
    threads = config.parameters[THREADS_PARAMETER].string_value if THREADS_PARAMETER in config.parameters else None
    return config.instance_group[0].count, threads


@pytest.mark.parametrize(
    ("serving", "expected"),
    [(Serving(), (1, None)), (Serving(encoders=2, encoder_threads=1), (2, "1"))],
)
def test_only_the_encoder_has_more_instances_and_threads(serving: Serving, expected: tuple[int, str | None]) -> None:
    graph = audio_graph(16000)
    assert (
        instances_and_threads(stage_config(Stage(name="encoder", graph=graph, device="any", encodes=True), serving))
        == expected
    )
    assert instances_and_threads(stage_config(Stage(name="decoder", graph=graph, device="cpu"), serving)) == (1, "1")


def test_a_shared_stage_has_the_same_configuration_in_every_export() -> None:
    stage = Stage(name=AUDIO_STAGE, graph=audio_graph(16000), device="cpu", shared=True)
    serving = Serving(max_batch_size=4, queue_delay_us=100, encoders=2, encoder_threads=1)
    assert stage_config(stage, serving) == stage_config(stage, Serving())
