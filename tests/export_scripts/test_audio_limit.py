"""The longest audio that a recognizer takes: its default, its stage and its error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeds import open_graph

from export_scripts.checkpoints.names import recognizer_name
from export_scripts.errors import ExportError
from export_scripts.operators.tuning import CPU, GPU
from export_scripts.repository.audio_limit import MEMORY_BUDGET, REQUESTS, Footprint, default_limit
from export_scripts.stages.audio import audio_graph
from nemo_triton.contract import (
    AUDIO,
    AUDIO_FORMATS,
    FLOAT_AUDIO,
    MAX_AUDIO_SECONDS,
    SAMPLES,
    audio_stage,
    is_audio_stage,
)

pytestmark = pytest.mark.fast

CONFORMER_LARGE = Footprint(
    weights=481_000_000,
    weights_in_file=False,
    encoders=1,
    largest_layer=5.12e6,
    features=32_000,
    tensors=64_000 + 12_900,
)


def test_16_of_the_longest_requests_fit_the_budget() -> None:
    limit = default_limit(CONFORMER_LARGE)
    assert limit % 60 == 0 and 60 < limit < MAX_AUDIO_SECONDS
    needed = [CONFORMER_LARGE.fixed + seconds * CONFORMER_LARGE.per_second for seconds in (limit, limit + 60)]
    assert needed[0] <= MEMORY_BUDGET < needed[1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"weights": 3_000_000_000}, 60),
        ({"largest_layer": 1e5, "tensors": 1e3, "weights": 1_000_000}, MAX_AUDIO_SECONDS),
    ],
)
def test_the_default_is_between_one_and_twenty_minutes(change: dict[str, float], expected: int) -> None:
    assert default_limit(replace(CONFORMER_LARGE, **change)) == expected  # type: ignore[arg-type]


def test_weights_in_a_file_need_less_memory_and_allow_longer_audio() -> None:
    in_graph = replace(CONFORMER_LARGE, weights=2_000_000_000)
    in_file = replace(in_graph, weights_in_file=True)
    assert in_file.memory(60) < in_graph.memory(60) - 2_000_000_000
    assert default_limit(in_graph) == 60 < default_limit(in_file)


def test_each_encoder_works_on_one_of_the_requests() -> None:
    two = replace(CONFORMER_LARGE, encoders=2)
    assert two.per_second - CONFORMER_LARGE.per_second == CONFORMER_LARGE.encoder_per_second
    assert two.per_second < 2 * CONFORMER_LARGE.per_second
    assert default_limit(two) < default_limit(CONFORMER_LARGE) and REQUESTS > 2


@pytest.mark.parametrize("seconds", [2, MAX_AUDIO_SECONDS])
def test_longer_audio_is_refused_by_its_limit(seconds: int) -> None:
    audio = open_graph(audio_graph(16000, seconds))
    longest = np.zeros((2, seconds * 16000), np.int16)
    samples, length = audio.run([SAMPLES.name, SAMPLES.length.name], {AUDIO.name: longest})
    assert samples.shape == longest.shape and length.tolist() == [[longest.shape[1]]] * 2
    with pytest.raises(Exception, match=f"audio is longer than {seconds} seconds"):
        audio.run(None, {AUDIO.name: np.zeros((1, seconds * 16000 + 1), np.int16)})


def test_names_of_audio_stages_are_reserved() -> None:
    names = [audio_stage(seconds, audio_format) for seconds in (1200, 60) for audio_format in AUDIO_FORMATS]
    assert names == ["audio", "audio_float", "audio_60s", "audio_60s_float"]
    for name in names:
        assert is_audio_stage(name)
        with pytest.raises(ExportError, match="stage that recognizers share"):
            recognizer_name(f"{name}.nemo")
    assert not is_audio_stage("audio_book") and not is_audio_stage("audio_float_60s")


@pytest.mark.parametrize("sample", [np.nan, np.inf, -np.inf, 1e13, -3e38])
def test_float_samples_that_no_model_can_use_are_refused(sample: float) -> None:
    audio = open_graph(audio_graph(16000, audio_format=FLOAT_AUDIO))
    samples = np.full((2, 1600), 0.5, np.float32)
    samples[1, -1] = -1e6
    (passed,) = audio.run([SAMPLES.name], {AUDIO.name: samples})
    np.testing.assert_array_equal(passed, samples)
    samples[1, 700] = sample
    with pytest.raises(Exception, match="audio has NaN, infinite or huge samples"):
        audio.run(None, {AUDIO.name: samples})


def test_no_float_samples_become_one_of_length_zero() -> None:
    audio = open_graph(audio_graph(16000, audio_format=FLOAT_AUDIO))
    samples, length = audio.run([SAMPLES.name, SAMPLES.length.name], {AUDIO.name: np.zeros((1, 0), np.float32)})
    assert samples.tolist() == [[0.0]] and samples.dtype == np.float32 and length.tolist() == [[0]]


def test_buckets_on_a_cpu_are_no_longer_than_the_longest_audio() -> None:
    assert CPU.up_to(240).seconds_at_once == 240
    assert CPU.up_to(1200) == CPU
    assert GPU.up_to(240) == GPU
