"""The GPU benchmark from end to end, on whatever machine this is, and its page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from benchmark_results import Finished, RunModule
from locations import DEMO_CHECKPOINT, RNNT_CHECKPOINT

from benchmark.studies.gpu.report import NO_GPU, page
from benchmark.studies.gpu.variants import VARIANTS

FLAGS = ("--utterances", 6, "--seconds", 0.1, "--rounds", 2, "--concurrency", "1,3", "--batch", 4)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture(scope="module")
def finished(run_module: RunModule, repository: Path, out: Path) -> Finished:
    """The RNNT model, beside PyTorch, and the CTC model with a graph that is no longer whole."""
    shutil.copytree(repository, out / "repository")
    graph = out / "repository" / f"{DEMO_CHECKPOINT.stem}_encoder" / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])
    flags = ("--model", "coffee_*", "--repository", out / "repository", "--out", out, "--report", out / "gpu.md")
    return run_module("studies.gpu", RNNT_CHECKPOINT, *flags, *FLAGS)


@pytest.fixture(scope="module")
def report(finished: Finished, out: Path) -> Any:
    assert finished.returncode == 2, finished.stderr
    return json.loads((out / "gpu.json").read_text())


def test_a_model_that_fails_costs_a_line_for_each_way(finished: Finished, report: Any) -> None:
    ways = [variant.name for variant in VARIANTS if report["gpus"] or not variant.on_gpus]
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert [line.partition(": ")[2].partition(":")[0] for line in errors] == [f"coffee_ctc, {way}" for way in ways]
    broken, whole = report["models"]
    assert (broken["name"], whole["name"]) == ("coffee_ctc", "coffee_rnnt")
    assert all(way["not_run"] for way in broken["served"]) and broken["no_pytorch"] == "no checkpoint was given"
    assert not any(way["not_run"] for way in whole["served"])


def test_figures_fit_together(report: Any) -> None:
    model = report["models"][1]
    audio = sum(report["durations"])
    for way in model["served"]:
        assert way["rtfx"] == sorted(way["rtfx_by_round"])[1] and len(way["rtfx_by_round"]) == 2
        assert way["texts"] == way["texts_as_nemo"] == 6 and way["texts_changed"] == 0
        assert sum(way["shares"].values()) == pytest.approx(1) and len(way["shares"]) == 4
        assert [load["concurrency"] for load in way["sweep"]] == [1, 3] and way["concurrency"] in (1, 3)
        limit = way["bound"]
        assert limit["rtfx"] * max(limit["computing_seconds"], limit["moving_seconds"]) == pytest.approx(audio)
    assert {way["name"]: way["mean_batch_size"] for way in model["served"]}["unbatched"] == 1
    assert [row["precision"] for row in model["pytorch"]] == ["fp32", "bf16"]
    assert model["pytorch"][0]["texts_as_nemo"] == 6, "NeMo agrees with itself"


def test_the_page_is_its_json(report: Any, out: Path) -> None:
    text = (out / "gpu.md").read_text()
    assert page(report) == text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    for way in report["models"][1]["served"]:
        (row,) = [row for row in rows if row[:3] == ["coffee_rnnt", "fp32", way["name"]]]
        slow, fast = min(way["rtfx_by_round"]), max(way["rtfx_by_round"])
        assert row[3:5] == [str(way["concurrency"]), f"{way['rtfx']:.1f} ({slow:.1f} to {fast:.1f})"]
        assert row[6] == f"{way['latency_ms']['p50']:.0f}" and row[13:] == ["6/6", "0"]
        (row,) = [row for row in rows if row[:2] == ["coffee_rnnt", way["name"]] and row[2] in ("fp32", "tf32")]
        assert row[5] == f"{way['bound']['rtfx']:.0f}" and row[7] == f"{way['rtfx'] / way['bound']['rtfx']:.1%}"
    (unbatched,) = [way for way in report["models"][1]["served"] if way["name"] == "unbatched"]
    (ragged,) = [row for row in rows if row[:3] == ["coffee_rnnt", "fp32", "ragged"]]
    ratios = [
        ours / theirs
        for ours, theirs in zip(
            report["models"][1]["served"][0]["rtfx_by_round"], unbatched["rtfx_by_round"], strict=True
        )
    ]
    assert ragged[5] == f"{sum(ratios) / 2:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def test_without_a_gpu_the_page_begins_with_it(report: Any) -> None:
    without = {**report, "gpus": [], "no_gpu": "this machine has none", "not_on_cpu": ["wide", "tensorrt"]}
    first = page(without).split("\n\n")[1]
    assert first.startswith("**No GPU: this machine has none.") and "not measured here: wide, tensorrt" in first
    rows = [line for line in page(without).splitlines() if line.startswith("| coffee_rnnt | fp32 | ragged")]
    assert rows[0].count(f" {NO_GPU} ") == 3


def test_with_a_gpu_its_figures_are_shown(report: Any) -> None:
    level = {"mean": 0.5, "highest": 3 * 2.0**30}
    model = json.loads(json.dumps(report["models"][1]))
    model["served"][0]["gpus"] = [
        {"uuid": "GPU-1", "busy": level, "memory_bytes": level, "watts": {"mean": 123.4, "highest": 200.0}}
    ]
    with_gpu = {**report, "gpus": ["NVIDIA L4"], "no_gpu": None, "not_on_cpu": [], "models": [model]}
    text = page(with_gpu)
    assert text.startswith("# Served on NVIDIA L4") and "No GPU" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| coffee_rnnt | fp32 | ragged")]
    assert "| 50.0% | 3.0 | 123 |" in row


def test_an_interrupted_run_goes_on(
    report: Any, finished: Finished, run_module: RunModule, out: Path, repository: Path
) -> None:
    """What is there is not measured again; what is missing, or was measured otherwise, is."""
    results = out / "results" / "coffee_rnnt"
    (results / "unbatched.round_2.json").unlink()
    kept = {file: file.stat().st_mtime_ns for file in results.glob("*.json")}
    flags = ("--model", "coffee_rnnt", "--repository", out / "repository", "--out", out, "--report", out / "gpu2.md")
    done = run_module("studies.gpu", RNNT_CHECKPOINT, *flags, *FLAGS)
    assert (done.returncode, done.stderr) == (0, "")
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    again = json.loads((out / "gpu2.json").read_text())["models"][0]
    before = report["models"][1]
    assert again["pytorch"] == before["pytorch"] and again["served"][0] == before["served"][0]
    assert again["served"][1]["rtfx_by_round"][0] == before["served"][1]["rtfx_by_round"][0]
    assert (results / "unbatched.round_2.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "nothing*"), r"nothing\*: fits no model"),
        (("--data", "docs"), "holds no dataset.json"),
        (("--concurrency", "1,1"), "has a number twice"),
        (("--speech", "README.md"), "README.md"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: tuple[str, ...], says: str, run_module: RunModule, repository: Path, tmp_path: Path
) -> None:
    given = ("--repository", repository, "--out", tmp_path, "--report", tmp_path / "gpu.md")
    done = run_module("studies.gpu", *given, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"error: [^\n]*{says}[^\n]*\n", done.stderr)
