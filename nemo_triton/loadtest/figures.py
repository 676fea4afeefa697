"""Figures of a load test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from nemo_triton.loadtest.measure import LoadRun, failures
from nemo_triton.loadtest.recording import PERCENTILES, RecordingInfo, Response
from nemo_triton.loadtest.schedule import OpenLoop
from nemo_triton.loadtest.server_counters import StepStatistics, summary, total
from nemo_triton.loadtest.server_metrics import Usage
from nemo_triton.loadtest.slo import Search
from nemo_triton.loadtest.wer import Pair, Score, score

SATURATED = 0.95
"""A concurrency saturates the server if it reaches this fraction of the highest throughput of the sweep."""
KNEE = 2.0
"""The knee of a sweep over rates is the last rate before p95 latency exceeds this many times that of the lowest."""
BUSY_CLIENT = 0.9
"""A sending process that is busy for a larger fraction of the time may limit the throughput."""

CLOCK = (
    "The clock runs from the first request to the last response; audio files are read before it starts. Latency "
    "counts from the scheduled send time of a request."
)


@dataclass(frozen=True, kw_only=True)
class EndpointFigures:
    """Figures of one server under a load.

    Attributes:
        endpoint: Address of the server as host:port.
        answered: Number of requests that it answered.
        recognizer: Triton's statistics of the whole recognizer; None if they are not known.
        steps: Triton's statistics of each stage.
    """

    endpoint: str
    answered: int
    recognizer: StepStatistics | None
    steps: Sequence[StepStatistics]

    @property
    def mean_batch_size(self) -> float | None:
        """Mean batch size of the stage that computes longest."""
        return _mean_batch_size(self.steps)


@dataclass(frozen=True, kw_only=True)
class LoadFigures:
    """The figures of one load. Failed and refused requests count only in the figures named so.

    Attributes:
        load: {"concurrency": N} or {"rate": R}.
        name: The load for people.
        answered: Number of requests with a text.
        failed: Number of failed requests.
        deadlines_exceeded: Number of requests that failed because their deadline passed.
        refused: Number of requests of an open loop that a full queue refused, or kept waiting until too little time was
            left. They are not failed.
        refusals: Attempts that a full queue refused, those that were retried included.
        waits: Whether requests waited for room.
        refusal_ms: Time to the end of refused requests, as in `latency_ms`; None without any.
        retries: Attempts beyond the first of each request.
        audio_seconds: Seconds of audio in the answered requests.
        wall_seconds: Seconds from the first request to the last response.
        latency_ms: Mean, percentiles (p50, ...) and max; None if no request was answered.
        late_ms: 95th percentile of how late an open loop sent its requests; None for a closed loop.
        client_busy: CPU use of the busiest sending process, 0 to 1; None if it was killed.
        loop_lag_ms: 95th percentile of how late a sending process woke up; None if it was killed.
        sessions: Number of sessions; more than one if the run was resumed.
        counters_complete: Whether `recognizer` and `steps` cover every session and every server.
        recognizer: Triton's statistics of the whole recognizer, summed over servers.
        steps: Triton's statistics of each stage, summed over servers.
        endpoints: Figures of each server.
        usage: CPU, GPU and memory of the server's machine; None if there are several servers.
        usages: CPU, GPU and memory of each server's machine, by the URL of its metrics.
    """

    load: Mapping[str, float]
    name: str
    answered: int
    failed: int
    deadlines_exceeded: int
    refused: int
    refusals: int
    waits: bool
    refusal_ms: Mapping[str, float] | None
    retries: int
    audio_seconds: float
    wall_seconds: float
    latency_ms: Mapping[str, float] | None
    late_ms: float | None
    client_busy: float | None
    loop_lag_ms: float | None
    sessions: int
    counters_complete: bool
    recognizer: StepStatistics | None
    steps: Sequence[StepStatistics]
    endpoints: Sequence[EndpointFigures]
    usage: Usage | None
    usages: Mapping[str, Usage]

    @property
    def rtfx(self) -> float:
        """Seconds of audio recognized per second of wall time."""
        return self.audio_seconds / self.wall_seconds if self.wall_seconds else 0.0

    @property
    def requests_per_second(self) -> float:
        """Requests answered per second of wall time."""
        return self.answered / self.wall_seconds if self.wall_seconds else 0.0

    @property
    def mean_batch_size(self) -> float | None:
        """Mean batch size of the stage that computes longest."""
        return _mean_batch_size(self.steps)


def _mean_batch_size(steps: Sequence[StepStatistics]) -> float | None:
    busy = [step for step in steps if step.infer_ms is not None]
    return max(busy, key=lambda step: step.infer_ms or 0.0).mean_batch_size if busy else None


@dataclass(frozen=True)
class Scored:
    """The errors in the first transcript of an utterance.

    Attributes:
        audio: Path of the audio file.
        pair: Reference and hypothesis.
    """

    audio: str
    pair: Pair


@dataclass(frozen=True, kw_only=True)
class Results:
    """All loads of a run, and the accuracy of the first transcript of each utterance.

    Attributes:
        setting: Model, server, versions, machine and options; JSON values.
        loads: Figures of each load.
        utterances: Number of utterances with a text.
        score: Error rates over these utterances.
        scored: Errors of each of these utterances.
        changed_texts: Utterances that got different texts in different requests.
        failures: One line for each utterance or request without a result.
        complete: Whether every planned request was sent.
        notes: One line for each reason why the run is incomplete or has no result.
        search: The search for a rate (--slo); None without one.
    """

    setting: Mapping[str, Any]
    loads: Sequence[LoadFigures]
    utterances: int
    score: Score
    scored: Sequence[Scored]
    changed_texts: Sequence[str]
    failures: Sequence[str]
    complete: bool
    notes: Sequence[str] = ()
    search: Search | None = None

    @property
    def best(self) -> LoadFigures | None:
        """The load with the highest rate that keeps the objective of the search."""
        best = self.search.best if self.search else None
        return next((load for load in self.loads if best and load.name == best.load.name), None)

    @property
    def saturation(self) -> LoadFigures | None:
        """The lowest concurrency that saturates the server; None without a sweep over concurrencies."""
        if self.search:
            return None
        closed = [load for load in self.loads if "concurrency" in load.load and load.answered]
        highest = max((load.rtfx for load in closed), default=0.0)
        saturated = [load for load in closed if load.rtfx >= SATURATED * highest]
        return min(saturated, key=lambda load: load.load["concurrency"]) if len(closed) > 1 else None

    @property
    def knee(self) -> str | None:
        """The last rate before latency rises (see KNEE), or before a request fails or is refused.

        None without a sweep over rates. If the knee is outside the sweep, the text says on which side.
        """
        if self.search:
            return None
        loads = sorted((load for load in self.loads if "rate" in load.load), key=lambda load: load.load["rate"])
        if len(loads) < 2:
            return None
        limit = KNEE * _p95(loads[0])
        steady = list(takewhile(lambda load: not load.failed + load.refused and _p95(load) <= limit, loads))
        if len(steady) == len(loads):
            return f"above {loads[-1].name}"
        return steady[-1].name if len(steady) > 1 else f"below {loads[1].name}"


def _p95(load: LoadFigures) -> float:
    """p95 latency in milliseconds; infinite if no request was answered."""
    return load.latency_ms["p95"] if load.latency_ms else float("inf")


def build_results(
    setting: Mapping[str, Any],
    runs: Sequence[LoadRun],
    recordings: Sequence[RecordingInfo],
    *,
    problems: Sequence[str],
    complete: bool,
    notes: Sequence[str] = (),
    search: Search | None = None,
) -> Results:
    """Compute all figures of a run.

    Args:
        setting: Settings of the run, see Results; "normalization" names the text normalization.
        runs: Measurements under each load.
        recordings: The recordings that were sent.
        problems: One line for each utterance that was not sent.
        complete: Whether every planned request was sent.
        notes: One line for each reason why the run is incomplete or has no result.
        search: The search for a rate; None without one.
    """
    first: dict[int, str] = {}
    changed: set[int] = set()
    failures: list[str] = [*problems]
    for response in (response for run in runs for response in run.responses):
        if response.error is not None:
            # Refused requests are a figure of each load; a line for each would hide the failures.
            if not response.refused:
                failures.append(failure_line(recordings, response))
        elif first.setdefault(response.recording, response.text) != response.text:
            changed.add(response.recording)
    answered = sorted(first)
    utterances = [recordings[number].utterance for number in answered]
    scores = score(
        [utterance.text or "" for utterance in utterances],
        [first[number] for number in answered],
        setting["normalization"],
    )
    return Results(
        setting=setting,
        loads=[_figures(run, recordings) for run in runs if run.sessions],
        utterances=len(answered),
        score=scores,
        scored=[Scored(utterance.name, pair) for utterance, pair in zip(utterances, scores.pairs, strict=True)],
        changed_texts=[recordings[number].utterance.name for number in sorted(changed)],
        failures=failures,
        complete=complete,
        notes=notes,
        search=search,
    )


def failure_line(recordings: Sequence[RecordingInfo], response: Response) -> str:
    """One line about a failed request."""
    return f"{recordings[response.recording].utterance.name}: {response.error}"


def worst_utterances(results: Results, limit: int) -> list[Scored]:
    """Select at most `limit` utterances, those with the most wrong words."""
    wrong = [scored for scored in results.scored if scored.pair.words.errors]
    return sorted(wrong, key=lambda scored: (-scored.pair.words.errors, scored.audio))[:limit]


def _figures(run: LoadRun, recordings: Sequence[RecordingInfo]) -> LoadFigures:
    answered = [response for response in run.responses if response.error is None]
    failed = failures(run.responses)
    refused = [response for response in run.responses if response.refused]
    models = summary(total(session.counted for session in run.sessions))
    delays = [response.sent - response.due for response in run.responses]
    is_open = isinstance(run.load, OpenLoop)
    usages = next((session.usages for session in reversed(run.sessions) if session.usages), {})
    return LoadFigures(
        load={"rate": run.load.rate} if isinstance(run.load, OpenLoop) else {"concurrency": run.load.concurrency},
        name=run.load.name,
        answered=len(answered),
        failed=len(failed),
        deadlines_exceeded=sum(response.deadline_exceeded for response in failed),
        refused=len(refused),
        refusals=sum(response.refusals for response in run.responses),
        waits=not isinstance(run.load, OpenLoop) or run.load.waits,
        refusal_ms=_latencies([1000 * response.latency for response in refused]),
        retries=sum(max(response.attempts - 1, 0) for response in run.responses),
        audio_seconds=sum(recordings[response.recording].duration for response in answered),
        wall_seconds=run.wall_seconds,
        latency_ms=_latencies([1000 * response.latency for response in answered]),
        late_ms=float(np.percentile(delays, 95)) * 1000 if is_open and delays else None,
        client_busy=_client_busy(run),
        loop_lag_ms=max((1000 * lag for session in run.sessions for lag in session.loop_lag_seconds), default=None),
        sessions=len(run.sessions),
        counters_complete=all(session.counted_by_endpoint and not session.uncounted for session in run.sessions),
        recognizer=models[0] if models else None,
        steps=models[1:],
        endpoints=_by_endpoint(run, answered),
        usage=next(iter(usages.values())) if len(usages) == 1 else None,
        usages=usages,
    )


def _by_endpoint(run: LoadRun, answered: Sequence[Response]) -> list[EndpointFigures]:
    answers = Counter(response.endpoint for response in answered if response.endpoint)
    counted_endpoints = {endpoint for session in run.sessions for endpoint in session.counted_by_endpoint}
    figures = []
    for endpoint in sorted({*answers, *counted_endpoints}):
        counted = [session.counted_by_endpoint.get(endpoint, {}) for session in run.sessions]
        models = summary(total(counted))
        figures.append(
            EndpointFigures(
                endpoint=endpoint,
                answered=answers[endpoint],
                recognizer=models[0] if models else None,
                steps=models[1:],
            )
        )
    return figures


def _client_busy(run: LoadRun) -> float | None:
    shares = [
        seconds / session.wall_seconds
        for session in run.sessions
        for seconds in session.client_cpu_seconds
        if session.wall_seconds
    ]
    return max(shares, default=None)


def _latencies(latencies: Sequence[float]) -> dict[str, float] | None:
    if not latencies:
        return None
    percentiles = {f"p{rank}": float(np.percentile(latencies, rank)) for rank in PERCENTILES}
    return {"mean": float(np.mean(latencies)), **percentiles, "max": max(latencies)}
