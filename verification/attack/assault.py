"""Requests in random company against a running server, each held against what it was alone."""

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
from nemo_triton.manifest import read_manifest
from server.process import Server, running_server
from verification.attack.cases import Case, make_cases, shares
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


@dataclass(frozen=True)
class Attack:
    """What is sent, and how.

    models: recognizers, and of each whether it has an ensemble with log-probs
    """

    models: dict[str, bool]
    cases: Sequence[Case]
    requests: int
    at_once: int


@dataclass
class Outcome:
    """What came of it; filled while it goes.

    counts: of (kind, what became of the request)
    wrong: a line for each request that got what it should not
    footprints: of the server, by the number of requests answered
    log_probs_differences: the largest of each kind, of those alone and those in company
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    footprints: list[tuple[int, Footprint]] = field(default_factory=list)
    log_probs_differences: dict[str, float] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        return sum(self.counts.values())

    @property
    def deaths(self) -> int:
        """Processes that were there at the beginning and are not at the end."""
        return len(self.footprints[0][1].processes - self.footprints[-1][1].processes)


class _Assault:
    """One run of an attack against a server that is there."""

    def __init__(self, attack: Attack, server: Server) -> None:
        self.attack = attack
        self.server = server
        self.outcome = Outcome()
        self.alone: dict[tuple[str, int], Answer] = {}
        self.rng = np.random.default_rng(SEED)
        self.sent = 0

    async def run(self, progress: Progress) -> None:
        """Ask for every case alone, then for all of them in random company."""
        async with open_channel(self.server.grpc) as channel:
            task = progress.add_task("alone", total=len(self.attack.models) * len(self.attack.cases))
            for model, log_probs in self.attack.models.items():
                for number, case in enumerate(self.attack.cases):
                    if case.fate == "answered":
                        name = f"{model}_log_probs" if log_probs else model
                        response = await call(channel, name, case, log_probs, HUNG_AFTER)
                        self.alone[model, number] = read(response, log_probs)
                    progress.advance(task)
            self.look()
            task = progress.add_task("in company", total=self.attack.requests)
            await asyncio.gather(*(self._client(channel, progress, task) for _ in range(self.attack.at_once)))
            self.look()

    async def _client(self, channel: grpc.aio.Channel, progress: Progress, task: TaskID) -> None:
        probabilities = shares(self.attack.cases)
        models = list(self.attack.models)
        while self.sent < self.attack.requests:
            self.sent += 1
            model = models[int(self.rng.integers(len(models)))]
            number = int(self.rng.choice(len(self.attack.cases), p=probabilities))
            log_probs = self.attack.models[model] and self.rng.random() < LOG_PROBS_SHARE
            patience = self.rng.random() * LEAVE_WITHIN if self.rng.random() < LEAVING_SHARE else None
            kind, became = self.attack.cases[number].kind, await self._ask(channel, model, number, log_probs, patience)
            self.outcome.counts[kind, became] += 1
            if became not in (RIGHT, LEFT):
                self.outcome.wrong.append(f"{model}, {kind}: {became}")
            if self.outcome.answered % FOOTPRINT_EVERY == 0:
                self.look()
            progress.advance(task)

    def look(self) -> None:
        self.outcome.footprints.append((self.outcome.answered, footprint(self.server.process.pid)))

    async def _ask(
        self, channel: grpc.aio.Channel, model: str, number: int, log_probs: bool, patience: float | None
    ) -> str:
        """What became of the request, whose client leaves after `patience` seconds: by a deadline or by cancelling."""
        case = self.attack.cases[number]
        by_deadline = patience is not None and self.rng.random() < 0.5
        timeout = patience if by_deadline and patience is not None else HUNG_AFTER
        request = call(channel, f"{model}_log_probs" if log_probs else model, case, log_probs, timeout)
        if patience is not None and not by_deadline:
            asyncio.get_running_loop().call_later(patience, request.cancel)
        try:
            answer = read(await request, log_probs)
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise  # It is the whole attack that is interrupted.
            return LEFT
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return LEFT if by_deadline else f"no answer in {HUNG_AFTER:.0f} s"
            return judge_refusal(case, error.code(), error.details() or "")
        alone = self.alone.get((model, number))
        if alone is not None and answer.log_probs is not None:
            known = self.outcome.log_probs_differences
            known[case.kind] = larger(known.get(case.kind, 0.0), log_probs_difference(alone, answer))
        return judge(case, alone, answer)


def judge_refusal(case: Case, code: grpc.StatusCode, details: str) -> str:
    """What became of a request that got an error."""
    if case.fate == "refused" and re.search(case.complaint, details):
        return RIGHT
    return f"refused: {code.name}: {details}"


def judge(case: Case, alone: Answer | None, answer: Answer) -> str:
    """What became of a request that was answered; `alone`: its answer alone, None where it was to be refused."""
    if alone is None:
        return f"answered: {answer.texts}"
    if answer.texts != alone.texts:
        return f"text {answer.texts}, alone {alone.texts}"
    difference = log_probs_difference(alone, answer)
    if not difference <= case.log_probs_within:
        return f"log-probs differ by {difference:.1e} from those alone"
    return RIGHT


def log_probs_difference(alone: Answer, answer: Answer) -> float:
    """The largest; 0 where they were not asked for, NaN where one is, infinite where there are more or fewer frames."""
    if alone.log_probs is None or answer.log_probs is None:
        return 0.0
    if [rows.shape for rows in alone.log_probs] != [rows.shape for rows in answer.log_probs]:
        return float("inf")
    pairs = zip(alone.log_probs, answer.log_probs, strict=True)
    return functools.reduce(larger, (float(np.abs(one - other).max(initial=0)) for one, other in pairs), 0.0)


def larger(one: float, other: float) -> float:
    """NaN where one is, which Python's max would lose."""
    return float(np.maximum(one, other))


def assault(
    repository: Path, models: Sequence[str], requests: int, at_once: int, manifest: Path
) -> tuple[Attack, Outcome]:
    """Serve `models` of `repository` and attack them with what is cut from the recordings of a manifest."""
    speech = np.concatenate([load_audio(utterance.audio) for utterance in read_manifest(manifest).utterances])
    with_log_probs = {model: (repository / f"{model}_log_probs").exists() for model in models}
    attack = Attack(with_log_probs, make_cases(speech, SEED), requests, at_once)
    names = [*models, *(f"{model}_log_probs" for model, has in with_log_probs.items() if has)]
    only = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in names)]
    with running_server(repository, only) as server, Progress(console=Console(stderr=True)) as progress:
        run = _Assault(attack, server)
        asyncio.run(run.run(progress))
    return attack, run.outcome
