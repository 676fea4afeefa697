"""Scores and a report of small results, where nothing but the benchmark's own packages is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from locations import ROOT

from benchmark.core.constants import COMPARED_AT, OURS
from benchmark.core.results_folder import write_json

pytestmark = pytest.mark.fast

MODEL, DATASET = "coffee_ctc", "orders"
REFERENCES = {"a.flac": "one small coffee", "b.flac": "two large teas"}
TEXTS = {"a.flac": "one small coffee", "b.flac": "two large tees"}
"""One wrong word of six."""


def closed_load(concurrency: int) -> dict[str, Any]:
    latencies = {"mean": 40.0, "p50": 39.0, "p95": 55.0, "p99": 60.0}
    step = {"queue_ms": 1.0, "input_ms": 0.5, "infer_ms": 20.0, "output_ms": 0.5, "mean_batch_size": 2.0}
    return {
        "name": f"{concurrency} in flight",
        "load": {"concurrency": concurrency},
        "rtfx": 100.0,
        "requests_per_second": 25.0,
        "latency_ms": latencies,
        "mean_batch_size": 2.0,
        "usage": None,
        "failed": 0,
        "steps": [{"model": f"{MODEL}_encoder", "batch_sizes": {"2": 11}, **step}],
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What benchmark.run leaves of one model."""
    folder = tmp_path / "results"
    write_json(
        folder / MODEL / "model.json",
        {
            "name": MODEL,
            "nemo_class": "EncDecCTCModel",
            "random_weights": False,
            "parameters": 1_000_000,
            "checkpoint_bytes": 4_000_000,
            "onnx_bytes": 5_000_000,
        },
    )
    closed = {
        "model": MODEL,
        "dataset_name": DATASET,
        "dataset": {"utterances": 2, "seconds": 5.0},
        "random_weights": False,
        "rows": "closed.rows.jsonl",
        "parity_id": "0123",
        "server": "triton 2.51",
        "machine": {"cores": 2, "processor": "a processor", "memory_bytes": 2**34, "system": "Linux"},
        "versions": {"python": "3.11"},
        "started": "2026-01-01T00:00:00+00:00",
        "loads": [closed_load(1), closed_load(COMPARED_AT)],
        "saturation": None,
        "knee": None,
        "changed_texts": [],
        "failures": [],
        "worst": [],
    }
    write_json(folder / MODEL / DATASET / "closed.json", closed)
    rows = [{"audio": audio, "reference": REFERENCES[audio], "text": TEXTS[audio], "error": None} for audio in TEXTS]
    # A later answer and a failure change no score.
    rows += [{**rows[0], "text": "something else"}, {**rows[1], "error": "no answer"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / MODEL / DATASET / "closed.rows.jsonl").write_text(lines)
    return folder


def run_without_onnx(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command where onnx, onnxruntime and PyTorch can't be imported."""
    absent = ["onnx", "onnxruntime", "torch", "nemo"]
    program = (
        f"import runpy, sys\nsys.modules.update(dict.fromkeys({absent}))\n"
        f"sys.argv[0] = {command!r}\nrunpy.run_module('benchmark.{command}', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_score_and_report_need_no_onnx(results: Path, tmp_path: Path) -> None:
    scored = run_without_onnx("score", results)
    assert (scored.returncode, scored.stderr) == (0, "")
    (row,) = json.loads((results / "scores.json").read_text())["scores"]
    assert (row["system"], row["utterances"]) == (OURS, 2)
    assert row["wer"] == pytest.approx(1 / 6) and row["words"]["substitutions"] == 1
    reported = run_without_onnx("report", results, "--out", tmp_path / "pages")
    assert (reported.returncode, reported.stderr) == (0, "")
    assert "| coffee_ctc | EncDecCTCModel | trained | fp32 | 1.0 |" in (tmp_path / "pages" / "report.md").read_text()
    assert "<script" not in (tmp_path / "pages" / "report.html").read_text()
    assert json.loads((results / "report.json").read_text())["served"][0]["model"] == MODEL
