"""Find the endpoint whose answers fail while those of other endpoints succeed.

Source: outlier detection of Envoy and gRPC (gRFC A50), with thresholds for a few servers and requests of seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

_MAX_ANSWERS = 100
_CLEARLY_BETTER = 0.5
"""An outlier has at least twice the failed fraction of the best of the other endpoints."""


@dataclass(frozen=True, kw_only=True)
class OutlierPolicy:
    """When an endpoint is ejected, and for how long.

    Attributes:
        consecutive_failures: Failures in a row.
        failed_fraction: Fraction of failed answers, if there are at least `min_answers`.
        min_answers: Answers that are needed for a fraction.
        window_seconds: Age up to which answers count.
        silent_seconds: An endpoint hangs if it sends no answer for this time, plus
            `silent_seconds_per_audio_second` of its longest pending request.
        silent_seconds_per_audio_second: See `silent_seconds`.
        ejection_seconds: Duration of the first ejection. Each further one takes twice as long.
        max_ejection_seconds: Longest ejection. An endpoint that was not ejected for this time starts anew.
        max_ejected_fraction: Fraction of the endpoints that can be ejected; one of two or three always can.
        probes: Recognitions that must succeed before an ejected endpoint gets requests again.
        probe_seconds: Deadline of each probe.
    """

    consecutive_failures: int = 3
    failed_fraction: float = 0.3
    min_answers: int = 10
    window_seconds: float = 30.0
    silent_seconds: float = 10.0
    silent_seconds_per_audio_second: float = 0.5
    ejection_seconds: float = 10.0
    max_ejection_seconds: float = 300.0
    max_ejected_fraction: float = 0.5
    probes: int = 3
    probe_seconds: float = 10.0

    def max_ejected(self, endpoints: int) -> int:
        """Return how many of the endpoints can be ejected together. The last one is never ejected."""
        return min(max(int(self.max_ejected_fraction * endpoints), 1), endpoints - 1)


class Outcome(Enum):
    """Outcome of a request at an endpoint.

    Attributes:
        SUCCESS: An answer with a text.
        FAILURE: A failure of the endpoint.
        SUSPECT: A failure of the endpoint or of the request, which a retry on another endpoint will show.
    """

    SUCCESS = auto()
    FAILURE = auto()
    SUSPECT = auto()


@dataclass(eq=False)
class Answer:
    """One answer of an endpoint.

    Attributes:
        time: Arrival on the machine's monotonic clock, in seconds.
        outcome: Outcome of the request.
        reason: The error; empty for a success.
    """

    time: float
    outcome: Outcome
    reason: str = ""


@dataclass
class AnswerHistory:
    """Recent answers of one endpoint, oldest first.

    Attributes:
        last_failure: When the last answer other than a success arrived, on the monotonic clock.
    """

    last_failure: float = field(default=float("-inf"), init=False)
    _answers: deque[Answer] = field(default_factory=lambda: deque(maxlen=_MAX_ANSWERS), init=False)

    def add(self, answer: Answer) -> None:
        """Append an answer."""
        self._answers.append(answer)
        if answer.outcome is not Outcome.SUCCESS:
            self.last_failure = answer.time

    def discard(self, answer: Answer) -> None:
        """Remove an answer, if it is still here."""
        if answer in self._answers:
            self._answers.remove(answer)

    def clear(self) -> None:
        """Remove all answers."""
        self._answers.clear()

    def drop_before(self, time: float) -> None:
        """Remove the answers before a time."""
        while self._answers and self._answers[0].time < time:
            self._answers.popleft()

    @property
    def answers(self) -> int:
        """Number of successes and failures."""
        return sum(answer.outcome is not Outcome.SUSPECT for answer in self._answers)

    @property
    def failures(self) -> int:
        """Number of failures."""
        return sum(answer.outcome is Outcome.FAILURE for answer in self._answers)

    @property
    def failed_fraction(self) -> float:
        """Failures per answer; 0 without an answer."""
        return self.failures / self.answers if self.answers else 0.0

    @property
    def failures_in_a_row(self) -> int:
        """Failures since the last success."""
        return self._in_a_row(Outcome.FAILURE)

    @property
    def last_reason(self) -> str:
        """The error of the last failure; empty without one."""
        return next((answer.reason for answer in reversed(self._answers) if answer.outcome is Outcome.FAILURE), "")

    @property
    def penalty(self) -> float:
        """Factor by which recent failures and suspects make the endpoint look busier than it is; 1 without any."""
        total = len(self._answers)
        failed = sum(answer.outcome is not Outcome.SUCCESS for answer in self._answers)
        return 1 + self._in_a_row(Outcome.FAILURE, Outcome.SUSPECT) + 10 * failed / total if failed else 1.0

    def _in_a_row(self, *outcomes: Outcome) -> int:
        count = 0
        for answer in reversed(self._answers):
            if answer.outcome is Outcome.SUCCESS:
                break
            count += answer.outcome in outcomes
        return count


def outlier_reason(history: AnswerHistory, others: Sequence[AnswerHistory], policy: OutlierPolicy) -> str | None:
    """Return why an endpoint is an outlier; None if it is none.

    Args:
        history: Answers of the endpoint.
        others: Answers of the other endpoints that get requests.
        policy: The thresholds.
    """
    if history.failures_in_a_row >= policy.consecutive_failures:
        fraction, reason = 1.0, f"{history.failures_in_a_row} failures in a row"
    elif history.answers >= policy.min_answers and history.failed_fraction >= policy.failed_fraction:
        fraction, reason = history.failed_fraction, f"{history.failures} of {history.answers} answers failed"
    else:
        return None
    fractions = [other.failed_fraction for other in others if other.answers]
    if not fractions or min(fractions) > _CLEARLY_BETTER * fraction:
        return None
    return f"{reason}, the last: {history.last_reason}"
