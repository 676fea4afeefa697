"""Requests in random batches against a running server, each compared with its answer alone."""

from __future__ import annotations

import asyncio
import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID

from nemo_triton.audio import load_audio
from nemo_triton.contract import Part
from nemo_triton.manifest import read_manifest
from server.process import Server, running_server
from verification.attack.cases import Case, make_cases, probabilities
from verification.attack.footprint import Footprint, footprint
from verification.attack.wire import Answer, call, open_channel, read

HUNG_AFTER = 300.0
"""Seconds without an answer."""
SEED = 0
LOG_PROBS_SHARE = 0.1
LEAVING_SHARE = 0.1
LEAVE_WITHIN = 0.1
"""Seconds after which, at most, a client that leaves is gone."""
FOOTPRINT_EVERY = 250

RIGHT, LEFT = "right", "left before it was answered"


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What is sent, and how.

    Attributes:
        models: Recognizers, and of each whether it has an ensemble with log-probs.
        cases: That requests are drawn from.
        requests: How many are sent.
        at_once: Clients.
    """

    models: dict[str, bool]
    cases: Sequence[Case]
    requests: int
    at_once: int


@dataclass
class Outcome:
    """What came of it; filled as it goes.

    Attributes:
        counts: Requests by kind and by what became of them.
        wrong: A line for each request that got what it should not.
        footprints: Of the server, by the number of requests answered.
        log_probs_differences: The largest of each kind, between a request alone and the same one batched.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    footprints: list[tuple[int, Footprint]] = field(default_factory=list)
    log_probs_differences: dict[str, float] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Requests sent and ended."""
        return sum(self.counts.values())

    @property
    def deaths(self) -> int:
        """How many processes of the first footprint are not in the last."""
        return len(self.footprints[0][1].processes - self.footprints[-1][1].processes)


class _Assault:
    """One run of an attack against a running server."""

    def __init__(self, attack: Attack, server: Server) -> None:
        self.attack = attack
        self.server = server
        self.outcome = Outcome()
        self.alone: dict[tuple[str, int], Answer] = {}
        self.rng = np.random.default_rng(SEED)
        self.sent = 0

    async def run(self, progress: Progress) -> None:
        """Send every case alone, then all of them in random batches."""
        async with open_channel(self.server.grpc) as channel:
            task = progress.add_task("alone", total=len(self.attack.models) * len(self.attack.cases))
            for model, log_probs in self.attack.models.items():
                for number, case in enumerate(self.attack.cases):
                    if case.fate == "answered":
                        response = await call(channel, model, case, log_probs=log_probs, timeout=HUNG_AFTER)
                        self.alone[model, number] = read(response, log_probs)
                    progress.advance(task)
            self.look()
            task = progress.add_task("in company", total=self.attack.requests)
            await asyncio.gather(*(self._client(channel, progress, task) for _ in range(self.attack.at_once)))
            self.look()

    async def _client(self, channel: grpc.aio.Channel, progress: Progress, task: TaskID) -> None:
        weights = probabilities(self.attack.cases)
        models = list(self.attack.models)
        while self.sent < self.attack.requests:
            self.sent += 1
            model = models[int(self.rng.integers(len(models)))]
            number = int(self.rng.choice(len(self.attack.cases), p=weights))
            log_probs = self.attack.models[model] and self.rng.random() < LOG_PROBS_SHARE
            patience = self.rng.random() * LEAVE_WITHIN if self.rng.random() < LEAVING_SHARE else None
            kind = self.attack.cases[number].kind
            became = await self._ask(channel, model, number, log_probs=log_probs, patience=patience)
            self.outcome.counts[kind, became] += 1
            if became not in (RIGHT, LEFT):
                self.outcome.wrong.append(f"{model}, {kind}: {became}")
            if self.outcome.answered % FOOTPRINT_EVERY == 0:
                self.look()
            progress.advance(task)

    def look(self) -> None:
        self.outcome.footprints.append((self.outcome.answered, footprint(self.server.process.pid)))

    async def _ask(
        self, channel: grpc.aio.Channel, model: str, number: int, *, log_probs: bool, patience: float | None
    ) -> str:
        """What became of the request, whose client leaves after `patience` seconds: by a deadline or by cancelling."""
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
                raise  # It is the whole attack that is interrupted.
            return LEFT
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return LEFT if by_deadline else f"no answer in {HUNG_AFTER:.0f} s"
            return judge_refusal(case, error.code(), error.details() or "")
        alone = self.alone.get((model, number))
        if alone is not None and answer.log_probs is not None:
            differences = self.outcome.log_probs_differences
            largest = differences.get(case.kind, 0.0)
            differences[case.kind] = larger(largest, log_probs_difference(alone, answer))
        return judge(case, alone, answer)


def judge_refusal(case: Case, code: grpc.StatusCode, details: str) -> str:
    """What became of a request that got an error."""
    if case.fate == "refused" and re.search(case.complaint, details):
        return RIGHT
    return f"refused: {code.name}: {details}"


def judge(case: Case, alone: Answer | None, answer: Answer) -> str:
    """What became of a request that was answered; `alone`: its answer alone, None if it should be refused."""
    if alone is None:
        return f"answered: {answer.texts}"
    if answer.texts != alone.texts:
        return f"text {answer.texts}, alone {alone.texts}"
    difference = log_probs_difference(alone, answer)
    if not difference <= case.log_probs_within:
        return f"log-probs differ by {difference:.1e} from those alone"
    return RIGHT


def log_probs_difference(alone: Answer, answer: Answer) -> float:
    """The largest; 0 if they were not requested, NaN if one is, infinite if there are more or fewer frames."""
    if alone.log_probs is None or answer.log_probs is None:
        return 0.0
    if [rows.shape for rows in alone.log_probs] != [rows.shape for rows in answer.log_probs]:
        return float("inf")
    pairs = zip(alone.log_probs, answer.log_probs, strict=True)
    return functools.reduce(larger, (float(np.abs(a - b).max(initial=0)) for a, b in pairs), 0.0)


def larger(first: float, second: float) -> float:
    """NaN if either is, which Python's max would lose."""
    return float(np.maximum(first, second))


def assault(
    repository: Path, models: Sequence[str], *, requests: int, at_once: int, manifest: Path
) -> tuple[Attack, Outcome]:
    """Serve `models` of `repository` and attack them with what is cut from the recordings of a manifest."""
    speech = np.concatenate([load_audio(utterance.audio) for utterance in read_manifest(manifest).utterances])
    with_log_probs = {model: (repository / Part.LOG_PROBS.of(model)).exists() for model in models}
    attack = Attack(models=with_log_probs, cases=make_cases(speech, SEED), requests=requests, at_once=at_once)
    names = [*models, *(Part.LOG_PROBS.of(model) for model, has in with_log_probs.items() if has)]
    only = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in names)]
    with running_server(repository, only) as server, Progress(console=Console(stderr=True)) as progress:
        run = _Assault(attack, server)
        asyncio.run(run.run(progress))
    return attack, run.outcome
