"""The ways that are measured side by side: each serves the same models, and the report says what was measured."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT
from report import Sweep, chart, markdown
from run import read_recordings
from tritonclient.grpc import model_config_pb2 as triton
from variants import Change, an_encoder_a_core, equal_shapes_only, without_batcher, write_variant
from ways import InProcess, Measured, Served, mean_batch

from export_scripts.check import check_repository
from export_scripts.runner import Runner
from export_scripts.triton_config import THREADS_PARAMETER, read_config
from server.process import running_server

RECORDINGS = read_recordings(DEMO_MANIFEST)[:6]


@pytest.mark.parametrize("change", [equal_shapes_only, without_batcher, an_encoder_a_core])
@pytest.mark.parametrize("model", [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem])
def test_a_variant_gives_the_same_text(repository: Path, tmp_path: Path, model: str, change: Change) -> None:
    write_variant(repository, model, tmp_path, change)
    assert check_repository(tmp_path) == []
    ours, variant = Runner(repository, model), Runner(tmp_path, model)
    for recording in RECORDINGS:
        (expected,), (found,) = ours.run([recording.samples]), variant.run([recording.samples])
        assert found["TEXT"].item() == expected["TEXT"].item() != ""


def configs_of(repository: Path, folder: Path, change: Change) -> dict[str, triton.ModelConfig]:
    """Of the variant's steps, by name."""
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


def test_an_encoder_a_core_changes_the_encoder_only(repository: Path, tmp_path: Path) -> None:
    configs = configs_of(repository, tmp_path, an_encoder_a_core)
    encoder = configs.pop(f"{DEMO_CHECKPOINT.stem}_encoder")
    assert encoder.instance_group[0].count == len(os.sched_getaffinity(0))
    assert encoder.parameters[THREADS_PARAMETER].string_value == "1"
    assert all(config == read_config(repository / name) for name, config in configs.items())


def test_clients_pad_to_whole_multiples(repository: Path, tmp_path: Path) -> None:
    model = DEMO_CHECKPOINT.stem
    write_variant(repository, model, tmp_path, equal_shapes_only)
    with running_server(tmp_path) as server:
        way = Served("padded", model, server.grpc, RECORDINGS, pad_to=10)
        measured = way.measure(RECORDINGS, 4)
    spoken = sum(recording.duration for recording in RECORDINGS)
    assert way.padding == pytest.approx(10 * len(RECORDINGS) / spoken - 1), "all are shorter than 10 s"
    assert set(measured.texts) == {recording.utterance.name for recording in RECORDINGS}
    assert len(measured.latencies) == len(RECORDINGS) and measured.seconds > 0


def test_in_process_all_at_once_and_one_by_one(repository: Path) -> None:
    way = InProcess(repository, DEMO_CHECKPOINT.stem)
    together, alone = way.measure(RECORDINGS, 32), way.measure(RECORDINGS, 1)
    assert together.texts == alone.texts
    assert (together.latencies, len(alone.latencies)) == ([], len(RECORDINGS))
    assert (together.mean_batch, alone.mean_batch, mean_batch(40, 16)) == (len(RECORDINGS), 1, 40 / 3)


def test_the_report_takes_ratios_round_by_round(tmp_path: Path) -> None:
    passes = [
        {"ours": Measured(1.0, {"a": "x", "b": "y"}, [0.1, 0.3], 2.0), "NeMo": Measured(3.0, {"a": "x", "b": "z"})},
        {"ours": Measured(2.0, {"a": "x", "b": "y"}, [0.1, 0.3], 2.0), "NeMo": Measured(8.0, {"a": "x", "b": "z"})},
    ]
    sweep = Sweep("read", 2, 12.0, 32, {"ours": None, "NeMo": None}, passes)
    text = markdown("model", "A note.", [sweep], "chart.svg")
    assert "| ours | 9 |  | 200 | 300 | 2.0 | - | 1/2 |" in text
    assert "| NeMo | 3 | 3.50 (3.00 to 4.00) | - | - | - | - | 2/2 |" in text
    chart([sweep], tmp_path / "chart.svg")
    assert "<svg" in (tmp_path / "chart.svg").read_text()
