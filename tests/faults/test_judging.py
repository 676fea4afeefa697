"""How killed processes and soak tests are judged, and what their pages say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from locations import ROOT
from written_pages import words_of

from verification.faults import kills_page, soak_page
from verification.faults.clips import make_clips
from verification.faults.injection import Fault, Injected, draw_faults
from verification.faults.kill_judge import Requests, StageKill, count_requests, problems
from verification.faults.kills_page import ModelKills
from verification.faults.soak_judge import (
    FEWEST_QUIET,
    SETTLE_SECONDS,
    Memory,
    Sent,
    Soak,
    bounds,
    is_quiet,
    memory_growth,
    p95_change,
)
from verification.faults.soak_run import Settings

pytestmark = pytest.mark.fast

REQUESTS = Requests(scored=20, missing=0, twice=0, failed=0, changed=0, retried=3, wer=0.03, seconds=2.0)
KILL = StageKill(
    stage="audio",
    not_ready=0.4,
    ended=0.5,
    ready_again=6.0,
    code=1,
    line="the process of model instance audio_0_0 (process 7) was killed by SIGKILL; "
    "the server ends, because Triton can't replace it",
    requests=REQUESTS,
)
CLIPS = make_clips(np.arange(-8000, 8000, dtype=np.int16), 0, count=5, longest=60.0)


def test_a_kill_within_bounds_has_no_problems() -> None:
    assert problems(KILL, REQUESTS, 20) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"not_ready": 5.1}, "ready for more than 5 s"),
        ({"not_ready": None}, "ready for more than 5 s"),
        ({"code": None}, "the server did not end"),
        ({"code": 0}, "exit code 0"),
        ({"line": ""}, "the error line names neither stage nor signal"),
        ({"ready_again": None}, "the server was not ready again"),
    ],
)
def test_a_server_out_of_bounds_is_a_problem(changes: dict[str, Any], problem: str) -> None:
    assert problems(replace(KILL, **changes), REQUESTS, 20) == [problem]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scored": 19}, "19 of 20 requests scored"),
        ({"missing": 1}, "1 requests without a response"),
        ({"twice": 1}, "1 requests with two responses"),
        ({"failed": 1}, "1 requests failed"),
        ({"changed": 1}, "1 texts changed"),
        ({"wer": 0.04}, "word error rate 0.04, undisturbed 0.03"),
    ],
)
def test_requests_out_of_bounds_are_a_problem(changes: dict[str, Any], problem: str) -> None:
    assert problems(replace(KILL, requests=replace(REQUESTS, **changes)), REQUESTS, 20) == [problem]


def row(number: int, text: str = "a", error: str | None = None, attempts: int = 1) -> Mapping[str, Any]:
    return {"number": number, "audio": "a.wav", "text": text, "error": error, "attempts": attempts}


def test_responses_are_counted() -> None:
    rows = [row(0), row(1, "b", attempts=2), row(1), row(3, error="lost")]
    figures = {"wer": 0.1, "loads": [{"wall_seconds": 2.0}, {"wall_seconds": 1.0}]}
    counted = count_requests(rows, figures, sent=4, texts={"a.wav": "a"})
    assert counted == Requests(scored=2, missing=1, twice=1, failed=1, changed=1, retried=1, wer=0.1, seconds=3.0)


def request(sent: float, latency: float = 1.0, **more: Any) -> Sent:
    return Sent(model="coffee_ctc", clip=0, sent=sent, answered=sent + latency, **more)


def fault(at: float, recovered: float | None, **more: Any) -> Injected:
    return Injected(fault=Fault.CUT, server=1, at=at, recovered=recovered, **more)


def soak(last_latency: float = 1.0, growth: float = 0.0, **more: Any) -> Soak:
    """A soak test of 400 s with one request per 0.5 s, whose latency and memory change in the last quarter."""
    requests = [request(half / 2, last_latency if half >= 600 else 1.0) for half in range(800)]
    memory = [Memory(0, 1, at, round(1e6 * (1 + growth * (at >= 300)))) for at in range(400)]
    given = {"requests": requests, "memory": memory, "faults": [fault(150, 160)], **more}
    return Soak(began=0.0, ended=400.0, **given)


def broken(recorded: Soak) -> list[str]:
    return [bound.name for bound in bounds(recorded) if not bound.holds]


def test_a_good_soak_test_holds_all_bounds() -> None:
    assert broken(soak(last_latency=1.09, growth=0.019)) == []


def test_each_bound_can_break() -> None:
    good = soak()
    assert broken(soak(requests=[*good.requests, request(5, wrong="b")])) == ["wrong texts"]
    assert broken(soak(requests=[*good.requests, request(5, error="lost")])) == ["failed requests"]
    assert broken(soak(faults=[fault(399, None)])) == ["faults without recovery"]
    assert broken(soak(faults=[fault(150, 160, code=1)])) == ["faults with another exit code"]
    assert broken(soak(growth=0.021)) == ["memory growth after warm-up"]
    assert broken(soak(last_latency=1.11)) == ["p95 latency, last quarter compared with first"]
    assert len(broken(Soak(ended=1.0))) == len(bounds(good))


def test_memory_of_a_server_that_restarts_does_not_count() -> None:
    samples = [Memory(0, 1, at, 100) for at in range(8)] + [Memory(1, at, at, 100 + at) for at in range(8)]
    assert memory_growth(samples) == 0
    assert memory_growth(samples[:3]) is None


def test_memory_of_the_warm_up_does_not_count() -> None:
    sizes = [10, 50, 100, 100, 100, 100, 101, 101]
    assert memory_growth([Memory(0, 1, at, size) for at, size in enumerate(sizes)]) == pytest.approx(0.01)


def test_only_quiet_requests_count_for_latency() -> None:
    faults = [fault(10, 20)]
    assert is_quiet(request(8.5), faults)
    assert not is_quiet(request(9.5), faults)
    assert not is_quiet(request(15), faults)
    assert not is_quiet(request(20 + SETTLE_SECONDS), faults)
    assert is_quiet(request(20.1 + SETTLE_SECONDS), faults)
    assert not is_quiet(request(100), [fault(10, None)])
    assert not is_quiet(request(1, error="lost"), [])


def test_a_quarter_with_few_quiet_requests_has_no_p95() -> None:
    few = [request(index / FEWEST_QUIET) for index in range(FEWEST_QUIET - 1)]
    assert p95_change(Soak(began=0, ended=4, requests=[*few, *soak().requests])) is None


def test_all_kinds_of_faults_occur_equally() -> None:
    faults = draw_faults(np.random.default_rng(0))
    assert {next(faults) for _ in Fault} == set(Fault) == {next(faults) for _ in Fault}


def test_clips_have_all_lengths() -> None:
    assert [len(clip) / 16000 for clip in CLIPS] == pytest.approx([0.1, 0.5, 2.45, 12.12, 60, 3, 0], abs=0.01)


def test_the_page_of_killed_processes_lists_what_is_out_of_bounds() -> None:
    results = ModelKills(model="coffee_ctc", sent=20, undisturbed=REQUESTS, kills=[KILL, replace(KILL, code=0)])
    page = kills_page.markdown([results], concurrency=16)
    assert "- coffee_ctc, audio: exit code 0\n" in page
    assert "| coffee_ctc | audio | 2 | 0.4 (0.4) | 0.5 (0.5) | 0, 1 | 6.0 (6.0) |" in page
    assert "| coffee_ctc | audio | 40 | 40 | 0 | 0 | 6 | 0 | 3.00% |" in page


def test_the_page_of_a_soak_test_lists_wrong_texts() -> None:
    page = soak_page.markdown(SETTINGS, soak(requests=[request(5, wrong="b"), request(6, error="lost")]))
    assert "- coffee_ctc, audio 0, 5 s: text 'b'\n- coffee_ctc, audio 0, 6 s: lost\n" in page
    assert "| 150 | 1 | connections cut | - | 10.0 |" in page


SETTINGS = Settings(
    repository=Path("models"),
    folder=Path("logs"),
    models=["coffee_ctc", "coffee_rnnt"],
    clips=CLIPS,
    seconds=400,
)


def test_the_committed_pages_have_the_words_of_the_programs() -> None:
    results = ModelKills(model="coffee_ctc", sent=20, undisturbed=REQUESTS, kills=[KILL])
    written = {
        "faults.md": kills_page.markdown([results], concurrency=16),
        "soak.md": soak_page.markdown(SETTINGS, soak()),
    }
    for name, page in written.items():
        assert words_of(page) <= words_of((ROOT / "docs" / name).read_text())
