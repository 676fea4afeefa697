"""check.py finds problems that would stop a server, in any repository."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from locations import ROOT
from tritonclient.grpc import model_config_pb2 as triton

from export_scripts.repository.config import Serving, Stage, ensemble_config, stage_config
from export_scripts.repository.publish import write_model
from export_scripts.repository.validate import check_repository
from export_scripts.stages.audio import audio_graph
from export_scripts.stages.ctc_decoder import ctc_decoder_graph
from export_scripts.stages.text import Pieces
from nemo_triton.contract import AUDIO, AUDIO_STAGE, LABELS, SAMPLES, TEXT

pytestmark = pytest.mark.fast

PIECES = Pieces(("a", "b"), ("a", "b"), (True, True), frozenset())

SERVING = Serving(max_batch_size=8)
audio = stage_config(Stage(name=AUDIO_STAGE, graph=audio_graph(16000), device="cpu"), SERVING)
decoder = stage_config(Stage(name="decoder", graph=ctc_decoder_graph(PIECES), device="cpu"), SERVING)
ensemble = ensemble_config("whole", [audio, decoder], [TEXT.name], {})


def copy_of(config: triton.ModelConfig) -> triton.ModelConfig:
    copy = triton.ModelConfig()
    copy.CopyFrom(config)
    return copy


def written(folder: Path, *configs: triton.ModelConfig) -> list[str]:
    for config in configs:
        graph = {AUDIO_STAGE: audio_graph(16000), "decoder": ctc_decoder_graph(PIECES)}.get(config.name)
        write_model(folder, config, graph)
    return check_repository(folder)


def run_check(repository: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "export_scripts/check.py", str(repository)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_exported_models_agree(tmp_path: Path) -> None:
    single_step = ensemble_config("whole", [audio], [SAMPLES.name], {})
    assert written(tmp_path, audio, decoder, single_step) == []


def change(config: triton.ModelConfig, how: Callable[[triton.ModelConfig], object]) -> triton.ModelConfig:
    changed = copy_of(config)
    how(changed)
    return changed


@pytest.mark.parametrize(
    ("stage", "how", "complaint"),
    [
        (audio, lambda c: setattr(c.input[0], "name", "SOUND"), "input SOUND is not in the graph"),
        (
            audio,
            lambda c: c.output[0].dims.append(3),
            f"output {SAMPLES.name} is [-1, -1, 3] (with the batch), the graph has",
        ),
        (audio, lambda c: c.output[1].dims.__setitem__(0, -1), f"output {SAMPLES.length.name} is [-1, -1]"),
        (audio, lambda c: setattr(c.input[0], "data_type", triton.TYPE_FP32), f"input {AUDIO.name} is TYPE_FP32"),
        (audio, lambda c: setattr(c.input[0], "allow_ragged_batch", True), f"ragged input {AUDIO.name} must be [-1]"),
        (audio, lambda c: setattr(c, "max_batch_size", 0), f"input {AUDIO.name} is [-1] (with the batch)"),
        (decoder, lambda c: c.batch_input.pop(), f"the graph's input {LABELS.shape.name} is not in the configuration"),
        (decoder, lambda c: setattr(c.batch_input[0], "data_type", triton.TYPE_INT64), "only INT32 and FP32"),
        (decoder, lambda c: setattr(c.input[0], "allow_ragged_batch", False), f"input {LABELS.name} is [-1, -1]"),
    ],
)
def test_a_configuration_that_does_not_fit_its_graph(
    tmp_path: Path, stage: triton.ModelConfig, how: Callable[[triton.ModelConfig], object], complaint: str
) -> None:
    problems = written(tmp_path, change(stage, how))
    assert any(problem.startswith(f"{stage.name}: ") and complaint in problem for problem in problems)


def test_a_configuration_may_omit_an_output(tmp_path: Path) -> None:
    assert written(tmp_path, change(audio, lambda c: c.output.pop())) == []


def test_a_graph_in_a_folder(tmp_path: Path) -> None:
    """Triton's layout for graphs with external data: model.onnx is a folder with a model.onnx in it."""
    assert written(tmp_path, audio) == []
    version = tmp_path / AUDIO_STAGE / "1"
    (version / "model.onnx").rename(version / "graph")
    (version / "model.onnx").mkdir()
    (problem,) = check_repository(tmp_path)
    assert problem.startswith(f"{AUDIO_STAGE}: 1/model.onnx/model.onnx: ")
    (version / "graph").rename(version / "model.onnx" / "model.onnx")
    assert check_repository(tmp_path) == []


def test_a_folder_and_a_name_that_differ(tmp_path: Path) -> None:
    written(tmp_path, audio)
    (tmp_path / AUDIO_STAGE).rename(tmp_path / "sound")
    assert check_repository(tmp_path) == [
        f"sound: config.pbtxt names the model '{AUDIO_STAGE}'; rename the folder or the model"
    ]


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        (lambda c: None, f"step decoder takes {LABELS.name}, which no earlier step outputs"),
        (lambda c: setattr(c, "max_batch_size", 99), f"max_batch_size 99 is more than the 8 of {AUDIO_STAGE}"),
        (lambda c: setattr(c.ensemble_scheduling.step[0], "model_name", "gone"), "step gone is not in the repository"),
        (
            lambda c: c.ensemble_scheduling.step[0].input_map.clear(),
            f"step {AUDIO_STAGE} gets no input {AUDIO.name}",
        ),
        (lambda c: c.output.add(name="NONE"), "output NONE is not an output of any step"),
        (
            lambda c: setattr(c.input[0], "data_type", triton.TYPE_FP32),
            f"{AUDIO.name} is TYPE_FP32 [-1], but {AUDIO_STAGE} has it as",
        ),
    ],
)
def test_an_ensemble_that_is_wired_wrongly(
    tmp_path: Path, how: Callable[[triton.ModelConfig], object], complaint: str
) -> None:
    unfed = change(ensemble, lambda c: [c.input.pop() for _ in range(len(c.input) - 1)])
    problems = written(tmp_path, audio, decoder, change(unfed, how))
    assert any(complaint in problem for problem in problems)


def test_an_ensemble_without_a_version_folder(tmp_path: Path) -> None:
    single_step = ensemble_config("whole", [audio], [SAMPLES.name], {})
    assert written(tmp_path, audio, single_step) == []
    (tmp_path / "whole" / "1").rmdir()
    (problem,) = check_repository(tmp_path)
    assert problem.startswith("whole: no version folder")


def test_the_command(tmp_path: Path) -> None:
    nothing = run_check(tmp_path)
    assert (nothing.returncode, nothing.stderr) == (
        2,
        f"error: {tmp_path}: no models in this folder; name a model repository\n",
    )
    written(tmp_path, audio)
    whole = run_check(tmp_path)
    assert (whole.returncode, whole.stdout) == (0, "1 model agrees with the graphs and each other\n")
    (tmp_path / AUDIO_STAGE / "1" / "model.onnx").write_bytes(b"no graph")
    (tmp_path / "no_\nmodel").mkdir()
    broken = run_check(tmp_path)
    assert broken.returncode == 1
    first, second = broken.stdout.splitlines()
    assert first.startswith(f"{tmp_path}/no_\\nmodel/config.pbtxt: "), "one line"
    assert second.startswith(f"{AUDIO_STAGE}: 1/model.onnx: ")
