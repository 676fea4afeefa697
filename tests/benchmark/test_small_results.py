"""Scores and reports of small results, with only the benchmark's own packages installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from locations import ROOT

from benchmark.core.constants import COMPARED_AT, OURS
from benchmark.core.results_folder import write_json
from benchmark.reporting.headline import NO_BREAK
from benchmark.reporting.speechloop import ENGINES, WORDS

pytestmark = pytest.mark.fast

MODEL, DATASET = "coffee_ctc", "orders"
REFERENCES = {"a.flac": "one small coffee", "b.flac": "two large teas"}
TEXTS = {"a.flac": "one small coffee", "b.flac": "two large tees"}
"""One wrong word in six."""


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
    """A folder of results as benchmark.run writes it for one model."""
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
    # A later response and a failure don't change the score.
    rows += [{**rows[0], "text": "something else"}, {**rows[1], "error": "no answer"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / MODEL / DATASET / "closed.rows.jsonl").write_text(lines)
    return folder


def copy_model(results: Path, name: str, **changed: object) -> Path:
    """Copy the results of MODEL under another name."""
    shutil.copytree(results / MODEL, results / name)
    model = json.loads((results / name / "model.json").read_text())
    write_json(results / name / "model.json", {**model, "name": name, **changed})
    closed = json.loads((results / name / DATASET / "closed.json").read_text())
    write_json(results / name / DATASET / "closed.json", {**closed, "model": name})
    return results / name


def bench_load(concurrency: int, rtfx: float = 100.0) -> dict[str, Any]:
    return {**closed_load(concurrency), "rtfx": rtfx}


def write_bench(
    file: Path, model: str, loads: list[dict[str, Any]], *, errors: int = 1, knee: str | None = None
) -> Path:
    """Write a file as bench.py does with --json, with the keys that a report reads."""
    rate = errors / 6
    figures = {
        "model": model,
        "started": "2026-01-01T00:00:00+00:00",
        "manifest": "data/orders/manifest.jsonl",
        "normalization": "basic",
        "random_weights": False,
        "precision": "fp32",
        "server": "triton 2.51",
        "machine": {"cores": 2, "processor": "a processor", "memory_bytes": 2**34, "system": "Linux"},
        "versions": {"python": "3.11"},
        "dataset": {"sha256": "0123456789", "utterances": 2, "audio_seconds": 5.0},
        "utterances": 2,
        "wer": rate,
        "wer_interval": [0.0, rate],
        "cer": rate,
        "cer_interval": [0.0, rate],
        "words": {"hits": 6 - errors, "substitutions": errors, "insertions": 0, "deletions": 0, "total": 6},
        "loads": loads,
        "saturation": None,
        "knee": knee,
        "changed_texts": [],
        "failures": [],
        "worst": [],
    }
    write_json(file, figures)
    return file


def run_without_onnx(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command where onnx, onnxruntime and PyTorch can't be imported."""
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
    text = (tmp_path / "pages" / "report.md").read_text()
    assert "| coffee_ctc | EncDecCTCModel | trained | fp32 | 1.0 |" in text
    assert "Measured on 1 January 2026 on 2 cores of a processor, 16 GiB of memory, Linux" in text
    assert "<script" not in (tmp_path / "pages" / "report.html").read_text()
    assert json.loads((results / "report.json").read_text())["served"][0]["model"] == MODEL


def test_one_model_has_no_chart_that_compares(results: Path, tmp_path: Path) -> None:
    assert run_without_onnx("score", results).returncode == 0
    assert run_without_onnx("report", results, "--out", tmp_path, "--title", "Mine").returncode == 0
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Mine\n")
    assert re.findall(r'alt="([^"]*)"', text) == ["What happens under load?", "Where does the time go?"]


def test_two_precisions_are_compared_in_one_sentence(results: Path, tmp_path: Path) -> None:
    quantized = copy_model(results, f"{MODEL}_int8", precision="int8", onnx_bytes=2_000_000)
    closed = json.loads((quantized / DATASET / "closed.json").read_text())
    for load in closed["loads"]:
        load["rtfx"] *= 1.25
    write_json(quantized / DATASET / "closed.json", closed)
    assert run_without_onnx("score", results).returncode == 0
    assert run_without_onnx("report", results, "--out", tmp_path).returncode == 0
    text = (tmp_path / "report.md").read_text().replace(NO_BREAK, " ")
    assert text.startswith("# coffee_ctc and coffee_ctc_int8: speed and accuracy\n")
    assert (
        "- On orders, coffee_ctc_int8 is 1.25 times as fast as coffee_ctc, has the same WER (16.67 %) and takes 2.0 MB "
        "instead of 5.0 MB.\n"
    ) in text
    assert "Vosk" not in text and "compared with others" not in text


def test_speechloops_words_have_a_page_and_no_error_rate_in_the_report(results: Path, tmp_path: Path) -> None:
    words = results / MODEL / WORDS
    (results / MODEL / DATASET).rename(words)
    closed = json.loads((words / "closed.json").read_text())
    write_json(words / "closed.json", {**closed, "dataset_name": WORDS})
    assert run_without_onnx("score", results).returncode == 0
    assert run_without_onnx("report", results, "--out", tmp_path).returncode == 0
    page = (tmp_path / "speechloop.md").read_text()
    for engine in ENGINES:
        assert f"| {engine.name} | {engine.version} | {engine.runs} | {100 * engine.mean_wer:.2f} | published |" in page
    assert f"| {OURS} | {MODEL} | offline | 16.67 | measured here |" in page
    report = (tmp_path / "report.md").read_text()
    assert "WER" not in report and "Vosk" not in report


def test_files_of_bench_become_a_report(tmp_path: Path) -> None:
    mine = write_bench(tmp_path / "mine.json", "mine", [bench_load(1), bench_load(8)])
    other = write_bench(tmp_path / "other.json", "other", [bench_load(8), bench_load(32)], errors=2)
    done = run_without_onnx("report", mine, other, "--out", tmp_path / "pages")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "pages" / "report.json").read_text())
    assert [(row["model"], row["dataset"], row["concurrency"]) for row in report["models"]] == [
        ("mine", "orders", 8),
        ("other", "orders", 8),
    ]
    text = (tmp_path / "pages" / "report.md").read_text().replace(NO_BREAK, " ")
    assert "with 8 concurrent requests" in text
    assert re.search(
        r"WER of (16.67 % instead of 33.33|33.33 % instead of 16.67) % \(overlapping 95 % intervals\)", text
    )
    assert "1.00 times as fast as" in text and "(within the noise)" in text
    assert "MB" not in text, "bench.py does not know the sizes of files"


def test_two_files_of_one_model_are_told_apart(tmp_path: Path) -> None:
    before = write_bench(tmp_path / "before.json", MODEL, [bench_load(8)])
    after = write_bench(tmp_path / "after.json", MODEL, [bench_load(8, rtfx=200.0)])
    assert run_without_onnx("report", before, after, "--out", tmp_path / "pages").returncode == 0
    text = (tmp_path / "pages" / "report.md").read_text()
    assert "coffee_ctc (after) is 2.00 times as fast as coffee_ctc (before)" in text
    assert "within the noise" not in text


def test_a_file_with_only_open_loops_becomes_a_report(tmp_path: Path) -> None:
    rates = [{**bench_load(1), "load": {"rate": rate}, "name": f"{rate:g} per second"} for rate in (5.0, 10.0)]
    file = write_bench(tmp_path / "open.json", MODEL, rates, knee="above 10 per second")
    done = run_without_onnx("report", file, "--out", tmp_path / "pages")
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "pages" / "report.md").read_text()
    assert "Outside the rates measured: coffee_ctc above 10 per second." in text
    assert "RTFx and p95" not in text


@pytest.mark.parametrize("content", ["[]", "{}", "no JSON"])
def test_other_files_are_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    done = run_without_onnx("report", file, "--out", tmp_path / "pages")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {file}: not ")


def test_a_folder_and_a_file_are_one_line(results: Path, tmp_path: Path) -> None:
    file = write_bench(tmp_path / "mine.json", MODEL, [bench_load(8)])
    done = run_without_onnx("report", results, file, "--out", tmp_path / "pages")
    assert done.returncode == 2 and "give one folder of results, or only files" in done.stderr
