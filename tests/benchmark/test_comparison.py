"""The compared systems and their models."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.baselines.process import Process
from benchmark.baselines.worker import ADAPTERS
from benchmark.core.constants import BASELINES, OWN_MODELS
from benchmark.measuring.comparison import Baselines

pytestmark = pytest.mark.fast


def commands(without: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Arguments after worker.py in the command of each baseline, by its name in results."""
    baselines = Baselines(
        checkpoint=None,
        baseline_models=Path("models"),
        whisper=Path("whisper"),
        without=without,
        export_python=Path("export"),
        baselines_python=Path("baselines"),
    )
    systems = baselines.systems(Path("repository"), "model", "localhost:1", [])
    return {system.name: system.command[3:] for system in systems if isinstance(system, Process)}


def test_every_adapter_is_a_baseline() -> None:
    assert sorted([*BASELINES, "nemo"]) == sorted(ADAPTERS)
    assert BASELINES[-len(OWN_MODELS) :] == tuple(OWN_MODELS), "after the baselines with the same weights"


def test_a_baseline_gets_the_converted_checkpoint_or_its_own_model() -> None:
    expected = {
        "NeMo transcribe()": ["nemo"],
        "onnx-asr": ["onnx_asr", "--model", "models/onnx_asr"],
        "sherpa-onnx": ["sherpa_onnx", "--model", "models/sherpa_onnx"],
        "pocketsphinx": ["pocketsphinx"],
        "faster-whisper": ["faster_whisper", "--model", "whisper"],
    }
    assert expected.items() <= commands().items()


def test_a_baseline_is_left_out() -> None:
    assert "sherpa-onnx" not in commands(without=("sherpa_onnx",))
