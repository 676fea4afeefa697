"""Figures of a run: saturation and knee of sweeps, rates, and utterances that are sent twice."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nemo_triton.loadtest.figures import Results, build_results
from nemo_triton.loadtest.figures_json import as_json
from nemo_triton.loadtest.measure import LoadRun, Session
from nemo_triton.loadtest.recording import Recording, Response, digest
from nemo_triton.loadtest.schedule import ClosedLoop, Load, OpenLoop
from nemo_triton.manifest import Utterance
from nemo_triton.terminal.tables import print_results

pytestmark = pytest.mark.fast

SETTING = {"normalization": "basic"}


def run_of(load: Load, latency: float, wall: float = 1.0, texts: tuple[str, ...] = ("a",) * 10) -> LoadRun:
    responses = [
        Response(number=number, recording=number % 2, text=text, due=0.0, sent=0.0, answered=latency)
        for number, text in enumerate(texts)
    ]
    return LoadRun(load, responses, [Session(wall_seconds=wall)])


def results_of(*runs: LoadRun) -> Results:
    recordings = [Recording(Utterance(Path(f"{number}.wav"), "a"), np.zeros(16000, np.int16)) for number in range(2)]
    return build_results(SETTING, runs, recordings, problems=[], complete=True)


def test_saturation_is_the_lowest_concurrency_with_nearly_the_highest_throughput() -> None:
    runs = [run_of(ClosedLoop(1), 0.1, 2.0), run_of(ClosedLoop(4), 0.1, 1.02), run_of(ClosedLoop(16), 0.1, 1.0)]
    saturation = results_of(*runs).saturation
    assert saturation is not None and saturation.load == {"concurrency": 4}
    assert results_of(runs[0]).saturation is None


def test_the_knee_is_the_last_rate_before_latency_rises() -> None:
    latencies = {1.0: 0.1, 2.0: 0.11, 4.0: 0.19, 8.0: 0.25, 16.0: 0.1}
    runs = [run_of(OpenLoop(rate), latency) for rate, latency in latencies.items()]
    assert results_of(*reversed(runs)).knee == "4 per second"
    assert results_of(runs[0]).knee is None


def test_a_knee_outside_the_sweep_is_reported_as_outside() -> None:
    steady = [run_of(OpenLoop(rate), 0.1) for rate in (1.0, 2.0, 4.0)]
    assert results_of(*steady).knee == "above 4 per second"
    assert results_of(steady[0], run_of(OpenLoop(2.0), 0.3), steady[2]).knee == "below 2 per second"


def test_a_rate_that_fails_is_beyond_the_knee() -> None:
    failed = run_of(OpenLoop(3.0), 0.1)
    failed.responses = [replace(response, text="", error="gone") for response in failed.responses]
    assert results_of(*(run_of(OpenLoop(rate), 0.1) for rate in (1.0, 2.0, 4.0)), failed).knee == "2 per second"


def test_rates_use_wall_time_and_latencies_use_scheduled_send_times() -> None:
    (load,) = results_of(run_of(OpenLoop(5.0), 0.25, wall=2.0)).loads
    assert load.rtfx == pytest.approx(5.0) and load.requests_per_second == pytest.approx(5.0)
    assert load.latency_ms is not None and load.latency_ms["p50"] == pytest.approx(250)


def test_an_utterance_counts_once_and_a_changed_text_is_reported() -> None:
    results = results_of(run_of(ClosedLoop(1), 0.1, texts=("a", "b", "a", "c")))
    assert results.utterances == 2 and results.score.words.total == 2
    assert results.score.wer.value == 0.5, "the first response is scored"
    assert results.changed_texts == ["1.wav"]


def test_insertions_into_empty_references_are_reported_without_a_rate() -> None:
    """Recordings of noise: the table and the JSON have the words that a recognizer made up."""
    recordings = [Recording(Utterance(Path(f"{number}.wav"), ""), np.zeros(16000, np.int16)) for number in range(2)]
    setting = {
        "normalization": "basic",
        "precision": "fp32",
        "model": "m",
        "url": "u",
        "manifest": "noise.jsonl",
        "random_weights": False,
        "metrics_problem": None,
        "machine": {"processor": "p", "cores": 2},
        "server": "s",
    }
    run = run_of(ClosedLoop(1), 0.1, texts=("uh oh", ""))
    results = build_results(setting, [run], recordings, problems=[], complete=True)
    printed = io.StringIO()
    print_results(results, 2, Console(file=printed, width=120))
    assert "undefined  (0 sub, 2 ins, 0 del in 0 words)" in printed.getvalue()
    figures = as_json(results, 2)
    assert figures["wer"] is None and figures["words"]["insertions"] == 2


def test_the_digest_depends_on_speech_and_texts() -> None:
    def recording(text: str, *samples: int) -> Recording:
        return Recording(Utterance(Path("0.wav"), text), np.array(samples, np.int16))

    pair = [recording("a", 1, 2), recording("b", 3)]
    assert digest(pair) == digest([recording("a", 1, 2), recording("b", 3)])
    others = ([*reversed(pair)], pair[:1], [recording("a", 1), recording("b", 2, 3)], [recording("", 1, 2), pair[1]])
    assert len({digest(recordings) for recordings in (pair, *others)}) == 5
