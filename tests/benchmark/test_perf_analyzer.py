"""Triton's perf_analyzer with our input files."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from benchmark_results import RunModule
from locations import BUILD, DEMO_MANIFEST

from benchmark.studies.perf_analyzer import PerfAnalyzerError, measure_by_perf_analyzer, write_intervals
from nemo_triton.audio import load_audio
from nemo_triton.contract import AUDIO, TEXT
from nemo_triton.loadtest.schedule import OpenLoop, Plan
from nemo_triton.manifest import read_manifest
from nemo_triton.recognizer import Recognizer

PROGRAM = BUILD / "perf_analyzer" / "run"
UTTERANCES = len(DEMO_MANIFEST.read_text().splitlines())


@pytest.mark.parametrize("load", [("--concurrency", 4), ("--rate", 40)])
def test_both_tools_put_the_same_load_on_the_server(
    triton: Any, run_module: RunModule, tmp_path: Path, load: tuple[str, int]
) -> None:
    flags = ("--manifest", DEMO_MANIFEST, "--url", triton.url, "--out", tmp_path, "--passes", 2, "--rounds", 2)
    done = run_module("studies.perf_analyzer", triton.model, *flags, *load, "--perf-analyzer", PROGRAM)
    assert done.returncode == 0
    # The ports of this server are not consecutive, so bench.py does not find its metrics.
    assert all(line.startswith("warning: no metrics of ") for line in done.stderr.splitlines())
    profile = json.loads((tmp_path / "perf_analyzer_profile.json").read_text())
    requests = profile["experiments"][0]["requests"]
    texts = [outputs[TEXT.name] for request in requests for outputs in request["response_outputs"]]
    with Recognizer(triton.model, triton.url) as recognizer:
        ours = [
            recognizer.transcribe(load_audio(utterance.audio)).text
            for utterance in read_manifest(DEMO_MANIFEST).utterances
        ]
    assert sorted(texts) == sorted(2 * ours)
    for figure in ("requests per second", "latency mean, ms", "server latency mean, ms", "client mean / server mean"):
        assert figure in done.stdout


@pytest.mark.fast
def test_without_the_program_its_command_line_is_printed(run_module: RunModule, tmp_path: Path) -> None:
    flags = ("--manifest", DEMO_MANIFEST, "--out", tmp_path, "--concurrency", 3, "--rate", 2.5)
    done = run_module("studies.perf_analyzer", "coffee_ctc", *flags)
    closed, opened = done.stdout.splitlines()
    assert closed.startswith("perf_analyzer -m coffee_ctc -i grpc") and "--concurrency-range 3" in closed
    assert "--request-intervals" in opened and f"--request-count {5 * UTTERANCES}" in opened
    inputs = json.loads((tmp_path / "perf_analyzer_input.json").read_text())["data"]
    lengths = [entry[AUDIO.name]["shape"] for entry in inputs]
    assert len({length for (length,) in lengths}) > UTTERANCES / 2


@pytest.mark.fast
def test_segments_are_sent_and_float_recordings_refused(run_module: RunModule, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, subtype in (("whole", "PCM_16"), ("float", "FLOAT")):
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.5, 0.5, 16_000), 16_000, subtype=subtype)
    manifest = tmp_path / "in.jsonl"
    segment = {"audio_filepath": str(tmp_path / "whole.wav"), "text": "", "offset": 0.25, "duration": 0.5}
    manifest.write_text(json.dumps(segment))
    flags = ("--manifest", manifest, "--out", tmp_path / "out", "--concurrency", 1)
    assert run_module("studies.perf_analyzer", "coffee_ctc", *flags).returncode == 0
    (sent,) = json.loads((tmp_path / "out" / "perf_analyzer_input.json").read_text())["data"]
    assert sent[AUDIO.name]["shape"] == [8_000]
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text()) == segment
    manifest.write_text(json.dumps({"audio_filepath": "float.wav"}))
    done = run_module("studies.perf_analyzer", "coffee_ctc", *flags)
    assert done.returncode == 2 and "float.wav: is not 16-bit mono at 16 kHz" in done.stderr


@pytest.mark.fast
def test_an_open_loop_has_bench_pys_send_times(tmp_path: Path) -> None:
    write_intervals(5.0, 100, tmp_path / "intervals.txt")
    intervals = [int(line) / 1e6 for line in (tmp_path / "intervals.txt").read_text().splitlines()]
    plan = Plan(OpenLoop(5.0), (0, 1), shuffled=True, seed=0, requests=100)
    due = [0.0, *(request.due for request in plan.part())]
    assert intervals == pytest.approx([later - earlier for earlier, later in pairwise(due)], abs=1e-6)


@pytest.mark.fast
def test_a_program_without_results_is_one_error_line(tmp_path: Path) -> None:
    with pytest.raises(PerfAnalyzerError, match="false ended with code 1 and no results"):
        measure_by_perf_analyzer(["false"], tmp_path / "profile.json")
