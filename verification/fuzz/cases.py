"""Mutated requests, each determined by a seed and a number, and their files."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from verification.fuzz.json_mutations import JSON_MUTATIONS, valid_http_request
from verification.fuzz.known_faults import known_fault, known_http_fault
from verification.fuzz.mutations import MUTATIONS, Context
from verification.fuzz.targets import Target, valid_request

Protocol = Literal["gRPC", "HTTP"]
_MUTATIONS_PER_REQUEST = (1, 1, 1, 1, 2, 2, 3, 4)


@dataclass(frozen=True)
class FuzzRequest:
    """A mutated request as it is sent.

    Attributes:
        protocol: "gRPC" or "HTTP".
        model: The model that the valid request was for.
        mutations: Names of the mutations, in order.
        content: The serialized ModelInferRequest, or the body by HTTP.
        fault: The known fault of Triton that it hits; empty if none.
        method: Method of the HTTP request.
        path: Path of the HTTP request.
        headers: Headers of the HTTP request.
    """

    protocol: Protocol
    model: str
    mutations: tuple[str, ...]
    content: bytes
    fault: str = ""
    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path, outcome: str) -> None:
        """Write the request to a file from which it can be sent again."""
        values = {"outcome": outcome, **asdict(self), "content": base64.b64encode(self.content).decode()}
        path.write_text(json.dumps(values, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> FuzzRequest:
        """Read a file of `write`.

        Raises:
            ValueError: The file was not written by `write`.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            del values["outcome"]
            content = base64.b64decode(values.pop("content"))
            return cls(**{**values, "mutations": tuple(values["mutations"])}, content=content)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(f"{path}: not a request of the fuzzer; give a file that it wrote") from error


@dataclass(frozen=True)
class Case:
    """A mutated request by its seed and number.

    Attributes:
        protocol: "gRPC" or "HTTP".
        seed: Seed of the run.
        number: Number of the request in the run.
        left_out: Positions of mutations that are left out. The others change the request as before.
    """

    protocol: Protocol
    seed: int
    number: int
    left_out: frozenset[int] = frozenset()

    def without(self, position: int) -> Case:
        """The same request without one more of its mutations."""
        return replace(self, left_out=self.left_out | {position})

    @property
    def mutations(self) -> dict[int, str]:
        """Names of the mutations by position."""
        rng = random.Random(f"{self.seed} {self.number} mutations")
        known = list(MUTATIONS if self.protocol == "gRPC" else JSON_MUTATIONS)
        chosen = rng.choices(known, k=rng.choice(_MUTATIONS_PER_REQUEST))
        return {position: name for position, name in enumerate(chosen) if position not in self.left_out}

    def build(self, targets: Sequence[Target]) -> FuzzRequest:
        """The request to one of these models."""
        rng = random.Random(f"{self.seed} {self.number}")
        target = rng.choice(targets)
        context = Context(target, tuple(targets))
        names = tuple(self.mutations.values())
        if self.protocol == "HTTP":
            request = valid_http_request(target, rng)
            for position, name in self.mutations.items():
                JSON_MUTATIONS[name](request, self._rng(position), context)
            return FuzzRequest(
                *("HTTP", target.name, names, request.body()),
                fault=known_http_fault(request),
                method=request.method,
                path=request.path,
                headers=request.headers,
            )
        message = valid_request(target, rng)
        for position, name in self.mutations.items():
            MUTATIONS[name](message, self._rng(position), context)
        return FuzzRequest(
            *("gRPC", target.name, names, message.SerializeToString()), fault=known_fault(message, targets)
        )

    def _rng(self, position: int) -> random.Random:
        return random.Random(f"{self.seed} {self.number} {position}")
