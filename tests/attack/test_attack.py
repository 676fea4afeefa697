"""A short attack on the demo's models, and how its responses are judged."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT, ROOT
from numpy.typing import NDArray
from written_pages import words_of

from server.process import running_server
from verification.attack.assault import CORRECT, Attack, Outcome, assault, judge, judge_refusal
from verification.attack.cases import make_cases
from verification.attack.footprint import Footprint, footprint
from verification.attack.summary import markdown
from verification.attack.wire import Answer

REQUESTS = 500
CASES = make_cases(np.arange(-8000, 8000, dtype=np.int16), largest_batch=8, seed=0)


@pytest.fixture(scope="module")
def outcome(repository: Path) -> Outcome:
    models = [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem]
    return assault(repository, models, requests=REQUESTS, concurrency=32, manifest=DEMO_MANIFEST)[1]


def test_no_text_changes_and_no_process_dies(outcome: Outcome) -> None:
    assert outcome.wrong == []
    assert outcome.deaths == 0
    assert outcome.answered == REQUESTS


def test_valid_and_invalid_requests_were_mixed(outcome: Outcome) -> None:
    correct = {kind for (kind, result), count in outcome.counts.items() if result == CORRECT}
    assert len(correct) > 12
    assert {"speech of 0.1 to 35 s", "float speech of 0.1 to 35 s", "no samples", "float samples"} <= correct


@pytest.mark.fast
def test_requests_of_float_recordings_are_int16() -> None:
    cases = make_cases(np.linspace(-1.5, 1.5, 16000, dtype=np.float32), largest_batch=8, seed=0)
    speech = [case.audio for case in cases if case.kind == "speech of 0.1 to 35 s"]
    assert {audio.dtype for audio in speech} == {np.dtype(np.int16)}
    values = np.concatenate(speech, axis=1)
    assert (int(values.min()), int(values.max())) == (-32768, 32767)


def test_another_text_is_wrong() -> None:
    assert judge(CASES[0], Answer(("a",)), Answer(("a",))) == CORRECT
    assert judge(CASES[0], Answer(("a",)), Answer(("b",))) == "text ('b',), expected ('a',)"


def test_other_log_probs_are_wrong() -> None:
    zeros = np.zeros((4, 3), np.float32)
    expected = Answer(("a", "b"), (zeros, zeros))

    def judged(second: NDArray[np.float32]) -> str:
        return judge(CASES[0], expected, Answer(("a", "b"), (zeros, second)))

    assert judged(zeros + np.float32(9e-4)) == CORRECT
    assert judged(zeros + np.float32(2e-3)) == "log-probs differ by 2.0e-03 from the unbatched ones"
    assert judged(zeros * np.float32("nan")) == "log-probs differ by nan from the unbatched ones"
    assert judged(zeros[:3]) == "log-probs differ by inf from the unbatched ones"


def test_only_the_expected_error_is_correct() -> None:
    refused = next(case for case in CASES if case.kind == "float samples")
    answered = next(case for case in CASES if case.fate == "answered")
    code, details = grpc.StatusCode.INVALID_ARGUMENT, "inference input 'AUDIO' data-type is 'FP32'"
    assert judge_refusal(refused, code, details) == CORRECT
    assert judge_refusal(refused, grpc.StatusCode.INTERNAL, "out of memory") == "refused: INTERNAL: out of memory"
    assert judge_refusal(answered, code, details).startswith("refused")
    assert judge(refused, None, Answer(("a",))).startswith("answered")


def test_a_server_that_dies_is_counted(repository: Path) -> None:
    only = ["--model-control-mode=explicit", f"--load-model={DEMO_CHECKPOINT.stem}"]
    with running_server(repository, only) as server:
        before = footprint(server.process.pid)
        server.process.kill()
        server.process.wait()
        after = footprint(server.process.pid)
    assert before.memory > 0
    assert (after.memory, after.processes) == (0, frozenset())
    assert Outcome(footprints=[(0, before), (1, after)]).deaths == len(before.processes)


def test_the_committed_page_has_the_words_of_the_program() -> None:
    attack = Attack(models={"coffee_ctc": True, "coffee_rnnt": False}, cases=CASES, requests=1, concurrency=32)
    page = markdown(attack, _memory_of([1, 1, 1, 1]))
    assert words_of(page) <= words_of((ROOT / "docs" / "attack.md").read_text())


def test_memory_is_compared_after_the_first_quarter() -> None:
    attack = Attack(models={"coffee_ctc": True}, cases=CASES, requests=1, concurrency=32)
    page = markdown(attack, _memory_of([7, 7, 7, 1, 1, 2, 4, 3, 100, 3, 9]))
    assert "| 2 | 2 | 3 | 4 |" in page
    assert "| 3 | 3 | 52 | 100 |" in page
    assert "last: +50.0%" in page
    assert "last: not measured" in markdown(attack, _memory_of([1, 2, 3]))
    assert "last: not measured" in markdown(attack, _memory_of([0, 0, 0, 0]))


def _memory_of(sizes: list[int]) -> Outcome:
    return Outcome(footprints=[(number, Footprint({1: size * 2**20})) for number, size in enumerate(sizes)])
