"""Instances, threads and batching in the configurations of stages."""

from __future__ import annotations

import pytest
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.operators.tuning import Target
from export_scripts.repository.config import (
    ENCODER_NICE,
    NICE_PARAMETER,
    PATTERN_PARAMETER,
    THREADS_PARAMETER,
    Serving,
    Stage,
    stage_config,
)
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


@pytest.mark.parametrize(
    ("serving", "size", "seconds"),
    [
        (Serving(), 16, 0),
        (Serving(encoders=2), 32, 0),
        (Serving.of("gpu"), 64, 0),
        (Serving(encoders=2, max_queue_size=5, queue_seconds=7), 5, 7),
    ],
)
def test_the_queue_of_an_encoder(serving: Serving, size: int, seconds: int) -> None:
    encoder = Stage(name="encoder", graph=audio_graph(16000), device="any", encodes=True)
    policy = stage_config(encoder, serving).dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (size, 1_000_000 * seconds)


@pytest.mark.parametrize(("target", "size"), [("cpu", 0), ("gpu", 256)])
def test_only_a_decoder_behind_a_gpu_has_a_limited_queue(target: Target, size: int) -> None:
    decoder = Stage(name="decoder", graph=audio_graph(16000), device="cpu")
    policy = stage_config(decoder, Serving.of(target)).dynamic_batching.default_queue_policy
    assert policy.max_queue_size == size


def test_a_stage_that_does_not_batch_has_no_batcher() -> None:
    stage = Stage(name=AUDIO_STAGE, graph=audio_graph(16000), device="cpu", shared=True, batches=False)
    assert not stage_config(stage, Serving()).HasField("dynamic_batching")


def test_an_encoder_steps_back_for_the_other_stages_of_a_cpu() -> None:
    encoder = Stage(name="encoder", graph=audio_graph(16000), device="any", encodes=True)
    decoder = Stage(name="decoder", graph=audio_graph(16000), device="cpu")
    assert stage_config(encoder, Serving()).parameters[NICE_PARAMETER].string_value == str(ENCODER_NICE)
    assert NICE_PARAMETER not in stage_config(encoder, Serving.of("gpu")).parameters
    assert NICE_PARAMETER not in stage_config(decoder, Serving()).parameters


@pytest.mark.parametrize("encodes", [False, True])
def test_no_stage_keeps_a_memory_pattern_for_each_shape(encodes: bool) -> None:
    stage = Stage(name="stage", graph=audio_graph(16000), device="any", encodes=encodes)
    assert stage_config(stage, Serving()).parameters[PATTERN_PARAMETER].string_value == "0"
