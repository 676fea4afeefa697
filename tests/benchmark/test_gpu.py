"""The whole GPU benchmark on this machine, and its page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from benchmark_results import Finished, RunModule
from locations import DEMO_CHECKPOINT, RNNT_CHECKPOINT, ROOT
from written_pages import words_of

from benchmark.core.tables import markdown
from benchmark.studies.gpu.report import NO_GPU, page, tables
from benchmark.studies.gpu.roofline import peak_rates
from benchmark.studies.gpu.variants import VARIANTS

FLAGS = ("--utterances", 6, "--seconds", 0.1, "--rounds", 2, "--concurrency", "1,3", "--batch", 4)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture(scope="module")
def finished(run_module: RunModule, repository: Path, out: Path) -> Finished:
    """The RNNT model, compared with PyTorch, and the CTC model with a truncated graph."""
    shutil.copytree(repository, out / "repository")
    graph = out / "repository" / f"{DEMO_CHECKPOINT.stem}_encoder" / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])
    flags = ("--model", "coffee_*", "--repository", out / "repository", "--out", out, "--report", out / "gpu.md")
    return run_module("studies.gpu", RNNT_CHECKPOINT, *flags, *FLAGS)


@pytest.fixture(scope="module")
def report(finished: Finished, out: Path) -> Any:
    assert finished.returncode == 2, finished.stderr
    return json.loads((out / "gpu.json").read_text())


def test_a_model_that_fails_prints_one_line_per_variant(finished: Finished, report: Any) -> None:
    variants = [variant.name for variant in VARIANTS if report["gpus"] or not variant.on_gpus]
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert [line.partition(": ")[2].partition(":")[0] for line in errors] == [
        f"coffee_ctc, {name}" for name in variants
    ]
    broken, intact = report["models"]
    assert (broken["name"], intact["name"]) == ("coffee_ctc", "coffee_rnnt")
    assert all(variant["not_run"] for variant in broken["served"])
    assert broken["no_pytorch"] == "no checkpoint was given"
    assert not any(variant["not_run"] for variant in intact["served"])


def test_figures_are_consistent(report: Any) -> None:
    model = report["models"][1]
    audio = sum(report["durations"])
    for variant in model["served"]:
        assert variant["rtfx"] == sorted(variant["rtfx_by_round"])[1] and len(variant["rtfx_by_round"]) == 2
        assert variant["texts"] == variant["texts_as_nemo"] == 6 and variant["texts_changed"] == 0
        assert sum(variant["shares"].values()) == pytest.approx(1) and len(variant["shares"]) == 4
        assert [load["concurrency"] for load in variant["sweep"]] == [1, 3] and variant["concurrency"] in (1, 3)
        limit = variant["bound"]
        assert limit["rtfx"] * max(limit["computing_seconds"], limit["moving_seconds"]) == pytest.approx(audio)
    assert {variant["name"]: variant["mean_batch_size"] for variant in model["served"]}["unbatched"] == 1
    assert [row["precision"] for row in model["pytorch"]] == ["fp32", "bf16"]
    assert model["pytorch"][0]["texts_as_nemo"] == 6, "NeMo agrees with itself"


def test_the_page_has_the_figures_of_the_json(report: Any, out: Path) -> None:
    text = (out / "gpu.md").read_text()
    assert page(report) == text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    for variant in report["models"][1]["served"]:
        (row,) = [row for row in rows if row[:3] == ["coffee_rnnt", "fp32", variant["name"]]]
        slow, fast = min(variant["rtfx_by_round"]), max(variant["rtfx_by_round"])
        assert row[3:5] == [str(variant["concurrency"]), f"{variant['rtfx']:.1f} ({slow:.1f} to {fast:.1f})"]
        assert row[6] == f"{variant['latency_ms']['p50']:.0f}" and row[13:] == ["6/6", "0"]
        (row,) = [row for row in rows if row[:2] == ["coffee_rnnt", variant["name"]] and row[2] in ("fp32", "tf32")]
        limit = variant["bound"]["rtfx"]
        assert row[5] == f"{limit:.0f}" and row[7] == f"{variant['rtfx'] / limit:.1%}"
    (unbatched,) = [variant for variant in report["models"][1]["served"] if variant["name"] == "unbatched"]
    (ragged,) = [row for row in rows if row[:3] == ["coffee_rnnt", "fp32", "ragged"]]
    ratios = [
        ours / theirs
        for ours, theirs in zip(
            report["models"][1]["served"][0]["rtfx_by_round"], unbatched["rtfx_by_round"], strict=True
        )
    ]
    assert ragged[5] == f"{sum(ratios) / 2:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def test_without_a_gpu_the_page_says_so_first(report: Any) -> None:
    without = {**report, "gpus": [], "no_gpu": "this machine has none", "not_on_cpu": ["wide", "tensorrt"]}
    first = page(without).split("\n\n")[3]
    assert first.startswith("**No GPU: this machine has none.**") and "were not measured: wide, tensorrt" in first
    rows = [line for line in page(without).splitlines() if line.startswith("| coffee_rnnt | fp32 | ragged")]
    assert rows[0].count(f" {NO_GPU} ") == 3


@pytest.mark.fast
def test_the_committed_page_has_the_words_of_the_program() -> None:
    measured = {"operations": {"fp32": 1e12, "bf16": 1e12}, "bytes": 1e9, "torch": "2.13.0+cpu", "device": "CPU"}
    empty: dict[str, Any] = {"models": [], "rates": peak_rates([], measured)}
    committed = words_of((ROOT / "docs" / "gpu_served.md").read_text())
    for table in tables(empty):
        assert words_of(markdown(table)) <= committed


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


def test_an_interrupted_run_continues(
    report: Any, finished: Finished, run_module: RunModule, out: Path, repository: Path
) -> None:
    """Existing results are reused; missing ones are measured."""
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
        (("--model", "nothing*"), r"nothing\*: "),
        (("--data", "docs"), "holds no dataset.json"),
        (("--concurrency", "1,1"), "has a number twice"),
        (("--speech", "README.md"), "README.md"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: tuple[str, ...], says: str, run_module: RunModule, repository: Path, tmp_path: Path
) -> None:
    outputs = ("--repository", repository, "--out", tmp_path, "--report", tmp_path / "gpu.md")
    done = run_module("studies.gpu", *outputs, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"error: [^\n]*{says}[^\n]*\n", done.stderr)
