"""Random concurrent requests to a running server, each compared with the same request unbatched."""

from __future__ import annotations

import asyncio
import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import grpc
import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmark.core.model_control import only
from nemo_triton.audio import join
from nemo_triton.contract import Part
from nemo_triton.manifest import read_manifest
from nemo_triton.utterances import load_utterance
from server.process import Server, running_server
from verification.attack.cases import Case, make_cases, probabilities
from verification.attack.footprint import Footprint, footprint
from verification.attack.wire import Answer, call, open_channel, read

HUNG_AFTER = 300.0
"""Seconds without a response after which a request counts as hung."""
SEED = 0
LOG_PROBS_FRACTION = 0.1
"""Fraction of the requests to CTC models that request log-probs."""
CANCELLED_FRACTION = 0.1
"""Fraction of the requests that the client cancels or times out."""
CANCELLED_WITHIN = 0.1
"""Seconds within which the client cancels or times out."""
FOOTPRINT_EVERY = 250
"""Requests between two measurements of the server's memory."""

_FULL_QUEUE = "Exceeds maximum queue size"
FULL_QUEUE_SECONDS = 1.0
"""Longest wait before a request that a full queue refused is sent again."""

CORRECT, CANCELLED = "correct", "cancelled"


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Settings of an attack.

    Attributes:
        models: Recognizers, and whether each has an ensemble with log-probs.
        cases: Cases that requests are drawn from.
        requests: Number of requests.
        concurrency: Number of concurrent clients.
    """

    models: dict[str, bool]
    cases: Sequence[Case]
    requests: int
    concurrency: int


@dataclass
class Outcome:
    """The results so far.

    Attributes:
        counts: Number of requests by kind and result.
        wrong: One line per wrong response.
        footprints: Footprints of the server with the number of requests completed before.
        log_probs_differences: Largest difference of a log-prob between batched and unbatched, by kind.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    footprints: list[tuple[int, Footprint]] = field(default_factory=list)
    log_probs_differences: dict[str, float] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Number of completed requests."""
        return sum(self.counts.values())

    @property
    def deaths(self) -> int:
        """Number of processes in the first footprint that are missing in the last."""
        return len(self.footprints[0][1].processes - self.footprints[-1][1].processes)


class _Assault:
    """One run of an attack against a running server."""

    def __init__(self, attack: Attack, server: Server) -> None:
        self.attack = attack
        self.server = server
        self.outcome = Outcome()
        self.expected: dict[tuple[str, int], Answer] = {}
        self.rng = np.random.default_rng(SEED)
        self.sent = 0

    async def run(self, progress: Progress) -> None:
        """Send every case unbatched, then random cases concurrently."""
        async with open_channel(self.server.grpc) as channel:
            task = progress.add_task("one at a time", total=len(self.attack.models) * len(self.attack.cases))
            for model, log_probs in self.attack.models.items():
                for number, case in enumerate(self.attack.cases):
                    if case.fate == "answered":
                        response = await call(channel, model, case, log_probs=log_probs, timeout=HUNG_AFTER)
                        self.expected[model, number] = read(response, log_probs)
                    progress.advance(task)
            self.record_footprint()
            task = progress.add_task("concurrent", total=self.attack.requests)
            await asyncio.gather(*(self._client(channel, progress, task) for _ in range(self.attack.concurrency)))
            self.record_footprint()

    async def _client(self, channel: grpc.aio.Channel, progress: Progress, task: TaskID) -> None:
        weights = probabilities(self.attack.cases)
        models = list(self.attack.models)
        while self.sent < self.attack.requests:
            self.sent += 1
            model = models[int(self.rng.integers(len(models)))]
            number = int(self.rng.choice(len(self.attack.cases), p=weights))
            log_probs = self.attack.models[model] and self.rng.random() < LOG_PROBS_FRACTION
            patience = self.rng.random() * CANCELLED_WITHIN if self.rng.random() < CANCELLED_FRACTION else None
            kind = self.attack.cases[number].kind
            result = await self._send(channel, model, number, log_probs=log_probs, patience=patience)
            self.outcome.counts[kind, result] += 1
            if result not in (CORRECT, CANCELLED):
                self.outcome.wrong.append(f"{model}, {kind}: {result}")
            if self.outcome.answered % FOOTPRINT_EVERY == 0:
                self.record_footprint()
            progress.advance(task)

    def record_footprint(self) -> None:
        self.outcome.footprints.append((self.outcome.answered, footprint(self.server.process.pid)))

    async def _send(
        self, channel: grpc.aio.Channel, model: str, number: int, *, log_probs: bool, patience: float | None
    ) -> str:
        """Send a request and judge its response.

        Args:
            channel: Connection to the server.
            model: The recognizer.
            number: Number of the case.
            log_probs: Whether to request log-probs.
            patience: Seconds after which the client cancels or times out; None if it waits.

        Returns:
            CORRECT, CANCELLED, or what is wrong.
        """
        case = self.attack.cases[number]
        by_deadline = patience is not None and self.rng.random() < 0.5
        timeout = patience if by_deadline and patience is not None else HUNG_AFTER
        request = call(channel, model, case, log_probs=log_probs, timeout=timeout)
        if patience is not None and not by_deadline:
            asyncio.get_running_loop().call_later(patience, request.cancel)
        try:
            answer = read(await request, log_probs)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # The whole attack is interrupted, not this request.
            return CANCELLED
        except grpc.aio.AioRpcError as error:
            if _FULL_QUEUE in (error.details() or ""):
                await asyncio.sleep(FULL_QUEUE_SECONDS * self.rng.random())
                return await self._send(channel, model, number, log_probs=log_probs, patience=patience)
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return CANCELLED if by_deadline else f"no response within {HUNG_AFTER:.0f} s"
            return judge_refusal(case, error.code(), error.details() or "")
        expected = self.expected.get((model, number))
        if expected is not None and answer.log_probs is not None:
            differences = self.outcome.log_probs_differences
            largest = differences.get(case.kind, 0.0)
            differences[case.kind] = larger(largest, log_probs_difference(expected, answer))
        return judge(case, expected, answer)


def judge_refusal(case: Case, code: grpc.StatusCode, details: str) -> str:
    """Judge an error: CORRECT, or the error if it is not the expected one."""
    if case.fate == "refused" and re.search(case.complaint, details):
        return CORRECT
    return f"refused: {code.name}: {details}"


def judge(case: Case, expected: Answer | None, answer: Answer) -> str:
    """Judge a response: CORRECT, or what is wrong.

    Args:
        case: The request.
        expected: Response to the same request unbatched; None if it should be refused.
        answer: Response to judge.
    """
    if expected is None:
        return f"answered: {answer.texts}"
    if answer.texts != expected.texts:
        return f"text {answer.texts}, expected {expected.texts}"
    difference = log_probs_difference(expected, answer)
    if not difference <= case.tolerance:
        return f"log-probs differ by {difference:.1e} from the unbatched ones"
    return CORRECT


def log_probs_difference(expected: Answer, answer: Answer) -> float:
    """The largest difference of a log-prob.

    0 if log-probs were not requested, NaN if one of them is NaN, infinite if the numbers of frames differ.
    """
    if expected.log_probs is None or answer.log_probs is None:
        return 0.0
    if [rows.shape for rows in expected.log_probs] != [rows.shape for rows in answer.log_probs]:
        return float("inf")
    pairs = zip(expected.log_probs, answer.log_probs, strict=True)
    return functools.reduce(larger, (float(np.abs(a - b).max(initial=0)) for a, b in pairs), 0.0)


def larger(first: float, second: float) -> float:
    """The larger number; NaN if one is NaN, unlike Python's max."""
    return float(np.maximum(first, second))


def _largest_batch(server: Server, models: Sequence[str]) -> int:
    """Most recordings that one request may have.

    Raises:
        click.UsageError: The models differ in it.
    """
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        sizes = {
            name: stub.ModelConfig(service_pb2.ModelConfigRequest(name=name), timeout=30).config.max_batch_size
            for name in models
        }
    if len(set(sizes.values())) > 1:
        raise click.UsageError(f"these models were not exported with the same --max-batch-size: {sizes}")
    return int(next(iter(sizes.values())))


def assault(
    repository: Path, models: Sequence[str], *, requests: int, concurrency: int, manifest: Path
) -> tuple[Attack, Outcome]:
    """Serve models and attack them.

    Args:
        repository: The model repository.
        models: Recognizers to serve.
        requests: Number of requests.
        concurrency: Number of concurrent clients.
        manifest: Recordings that requests are cut from.
    """
    speech = join(load_utterance(utterance) for utterance in read_manifest(manifest).utterances)
    with_log_probs = {model: (repository / Part.LOG_PROBS.of(model)).exists() for model in models}
    with (
        running_server(repository, only(repository, *models)) as server,
        Progress(console=Console(stderr=True)) as progress,
    ):
        cases = make_cases(speech, largest_batch=_largest_batch(server, models), seed=SEED)
        attack = Attack(models=with_log_probs, cases=cases, requests=requests, concurrency=concurrency)
        run = _Assault(attack, server)
        asyncio.run(run.run(progress))
    return attack, run.outcome
