"""The rules of outlier detection and of the retry budget."""

from __future__ import annotations

import pytest
from tritonclient.utils import InferenceServerException

from nemo_triton.errors import UnavailableError
from nemo_triton.faults import Fault, fault_of
from nemo_triton.outliers import Answer, AnswerHistory, Outcome, OutlierPolicy, outlier_reason
from nemo_triton.protocol import explain_request
from nemo_triton.retry_budget import TOKENS, RetryBudget
from nemo_triton.served_model import ServedModel

pytestmark = pytest.mark.fast

POLICY = OutlierPolicy()


def history(outcomes: str) -> AnswerHistory:
    """A history of successes (+), failures (-) and suspects (?)."""
    kinds = {"+": Outcome.SUCCESS, "-": Outcome.FAILURE, "?": Outcome.SUSPECT}
    answers = AnswerHistory()
    for time, outcome in enumerate(outcomes):
        answers.add(Answer(time, kinds[outcome], f"error {time}" if outcome == "-" else ""))
    return answers


@pytest.mark.parametrize(
    ("outcomes", "others", "reason"),
    [
        ("+++---", ["+"], "3 failures in a row, the last: error 5"),
        ("-?-?-", ["+"], "3 failures in a row, the last: error 4"),
        ("-+-+-+-+-+", ["+"], "5 of 10 answers failed, the last: error 8"),
        ("-+-+-+-+-+", ["+", "-"], "5 of 10 answers failed, the last: error 8"),
        ("--", ["+"], None),
        ("-+-+-+", ["+"], None),
        ("?????", ["+"], None),
        ("-++++++++++", ["+"], None),
        # The others fail as well, or nothing is known of them.
        ("---", ["---"], None),
        ("-+-+-+-+-+", ["-+-+"], None),
        ("---", [""], None),
        ("---", [], None),
    ],
)
def test_an_outlier_fails_while_others_succeed(outcomes: str, others: list[str], reason: str | None) -> None:
    assert outlier_reason(history(outcomes), [*map(history, others)], POLICY) == reason


def test_failures_make_an_endpoint_look_busier() -> None:
    penalties = [history(outcomes).penalty for outcomes in ("++", "+++++++++-+", "-+-+", "?", "---")]
    assert penalties[0] == 1 and penalties == sorted(penalties)


def test_old_answers_do_not_count() -> None:
    answers = history("---+")
    answers.drop_before(2)
    assert (answers.answers, answers.failures, answers.failures_in_a_row) == (2, 1, 0)


@pytest.mark.parametrize(("endpoints", "ejected"), [(1, 0), (2, 1), (3, 1), (4, 2), (9, 4)])
def test_at_most_half_of_the_endpoints_are_ejected_and_never_the_last(endpoints: int, ejected: int) -> None:
    assert POLICY.max_ejected(endpoints) == ejected


def test_a_retry_costs_as_much_as_five_answers_earn() -> None:
    budget = RetryBudget()
    assert [budget.withdraw() for _ in range(int(TOKENS) + 1)] == [True] * int(TOKENS) + [False]
    for _ in range(5):
        budget.deposit()
    assert [budget.withdraw(), budget.withdraw()] == [True, False]


@pytest.mark.parametrize(
    ("status", "message", "fault"),
    [
        ("UNAVAILABLE", "in ensemble 'x', [request id: <id_unknown>] Exceeds maximum queue size", Fault.QUEUE),
        ("UNAVAILABLE", "in ensemble 'x', Request timeout expired", Fault.QUEUE),
        ("UNAVAILABLE", "Socket closed", Fault.OUTAGE),
        ("NOT_FOUND", "Request for unknown model: 'x' is not found", Fault.OUTAGE),
        ("INTERNAL", "in ensemble 'x', Stub process 'audio_0_0' is not healthy.", Fault.OUTAGE),
        ("INTERNAL", "in ensemble 'x', Failed to allocate memory", Fault.SERVER),
        ("INTERNAL", "Name:'audio is longer than 1200 seconds' Status Message: ...", Fault.REQUEST),
        ("INTERNAL", "Name:'more than 100 tokens in one frame; use a checkpoint' Status Message: ...", Fault.REQUEST),
        ("INVALID_ARGUMENT", "unexpected shape", Fault.REQUEST),
        ("RESOURCE_EXHAUSTED", "Received message larger than max", Fault.REQUEST),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Fault.DEADLINE),
        (
            "INVALID_ARGUMENT",
            "in ensemble 'm', [request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'm_encoder'.",
            Fault.SERVER,
        ),
    ],
)
def test_the_fault_of_a_failed_request(status: str, message: str, fault: Fault) -> None:
    assert fault_of(InferenceServerException(message, f"StatusCode.{status}")) is fault


@pytest.mark.parametrize(
    ("status", "message", "went_down"),
    [
        ("UNAVAILABLE", "Stream removed (Socket closed)", True),
        ("INTERNAL", "in ensemble 'x', Stub process 'audio_0_0' is not healthy.", True),
        ("NOT_FOUND", "Request for unknown model: 'x' is not found", False),
        ("CANCELLED", "Cancelled on server side", False),
        ("UNAVAILABLE", "This protocol is restricted, expecting header 'triton-grpc-protocol-key'", False),
    ],
)
def test_only_a_server_that_does_not_answer_went_down(status: str, message: str, went_down: bool) -> None:
    model = ServedModel(name="x", frame_seconds=0.04, steps=(), log_probs_name=None)
    error = explain_request(InferenceServerException(message, f"StatusCode.{status}"), model, "localhost:8001", 1.0)
    assert isinstance(error, UnavailableError) and message in str(error)
    assert ("the server went down" in str(error)) is went_down
