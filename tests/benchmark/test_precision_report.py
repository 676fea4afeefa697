"""The page of precisions, and a measurement with real servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST

from benchmark.baselines.recordings import shuffled_recordings
from benchmark.baselines.system import Measured
from benchmark.core.models import RepositoryError, read_models
from benchmark.studies.exports import export_all
from benchmark.studies.precision.measure import DYNAMIC, measure
from benchmark.studies.precision.report import Exported, Measurement, page

FP32 = {"a": "one two three", "b": "four five"}
INT8 = {"a": "one two tree", "b": "four five"}
MEASUREMENT = Measurement(
    model="model",
    random_weights=False,
    speech="orders",
    audio_seconds=120.0,
    concurrency=16,
    references={"a": "one two tree", "b": "four five"},
    exported={"fp32": Exported(4_000_000, 50, 0), "int8": Exported(1_500_000, 50, 1)},
    unbatched={"fp32": Measured(9.0, FP32), "int8": Measured(9.0, INT8)},
    rounds=[
        {"fp32": Measured(4.0, FP32), "int8": Measured(2.0, INT8)},
        {"fp32": Measured(6.0, FP32), "int8": Measured(2.0, {**INT8, "b": "for five"})},
        {"fp32": Measured(5.0, FP32), "int8": Measured(1.0, INT8)},
    ],
    not_run={"fp16": "changes 3 of NeMo's 9 words"},
)


@pytest.mark.fast
def test_a_row_for_each_precision() -> None:
    text = page([MEASUREMENT], "a processor")
    assert "| fp32 | 4.0 | 24 (20 to 30) | - | - | 0 of 50, 0.00% | 20.00% | 2/2 |" in text
    assert (
        "| int8 | 1.5 | 60 (60 to 120) | 3.00 (2.00 to 5.00) | 1 of 5, 20.00% | 1 of 50, 2.00% | 0.00% | 1/2 |" in text
    )
    assert "| fp16 | not run: changes 3 of NeMo's 9 words |" in text


@pytest.mark.fast
def test_random_weights_have_no_error_rate() -> None:
    text = page([replace(MEASUREMENT, random_weights=True)], "a processor")
    assert "model (random weights" in text
    assert "| 2.00% | - | 2/2 |" not in text and "20.00% | 2/2" not in text


def test_a_pass_over_real_servers(repository: Path) -> None:
    recordings = shuffled_recordings(DEMO_MANIFEST)[:6]
    models = {model.name: model for model in read_models(repository)}
    only = {"fp32": models[DEMO_CHECKPOINT.stem]}
    comparison = measure(only, repository, recordings, speech="demo", concurrency=4, rounds=2, refused={"int8": "x"})
    assert list(comparison.unbatched) == ["fp32", DYNAMIC]
    assert comparison.not_run == {"int8": "x"}
    assert comparison.same_when_batched("fp32") == len(recordings)
    assert comparison.changed_words("fp32")[0] == 0
    assert comparison.exported[DYNAMIC].onnx_bytes < comparison.exported["fp32"].onnx_bytes
    rate = comparison.word_error_rate("fp32")
    assert rate is not None and rate < 0.1


def test_a_checkpoint_that_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"missing\.nemo: can't be exported"):
        export_all(tmp_path / "missing.nemo", tmp_path / "repository", Path(".venv/export/bin/python"))
