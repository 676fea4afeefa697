"""Choose the models that no other beats in both speed and word error rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

FAMILY_TITLES = {
    "quartznet": "QuartzNet",
    "jasper": "Jasper",
    "citrinet": "Citrinet",
    "conformer_ctc": "Conformer-CTC",
    "contextnet": "ContextNet",
    "conformer_transducer": "Conformer-Transducer",
    "fastconformer": "FastConformer",
    "parakeet": "Parakeet",
}
FAMILY_LABELS = {**FAMILY_TITLES, "conformer_ctc": "CTC", "conformer_transducer": "RNNT"}
"""Short names of families, for points of a chart whose legend has the full names."""
OTHER_SETS = ("test-other", "dev-other")

Json = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A measured model with a published word error rate on one of OTHER_SETS.

    Attributes:
        name: Name of the served model.
        family: Family in the catalogue.
        speed: Served RTFx.
        error: Word error rate in percent.
        parameters: Number of weights.
        on_dev: Whether the error is measured on dev-other.
    """

    name: str
    family: str
    speed: float
    error: float
    parameters: int
    on_dev: bool

    @property
    def family_title(self) -> str:
        """The family as people write it."""
        return FAMILY_TITLES.get(self.family, self.family)

    @property
    def label(self) -> str:
        """A short name for charts, with an asterisk if the error is of dev-other."""
        size = self.name.removeprefix("stt_en_").removeprefix(self.family).lstrip("_")
        size = size.replace("_gamma_0_25", " \N{GREEK SMALL LETTER GAMMA}").replace("_", " ")
        return f"{FAMILY_LABELS.get(self.family, '')} {size}".strip() + "*" * self.on_dev


def candidates(rows: Iterable[Json]) -> list[Candidate]:
    """The models that can be compared."""
    chosen = []
    for row in rows:
        rate = other_rate(row)
        if row["measured"] and rate is not None:
            chosen.append(
                Candidate(
                    name=row["name"],
                    family=row["family"],
                    speed=row["measured"]["served_rtfx"]["median"],
                    error=rate,
                    parameters=row["parameters"],
                    on_dev="dev-other" in row["published"]["wer_percent"],
                )
            )
    return chosen


def other_rate(row: Json) -> float | None:
    """The published word error rate on one of OTHER_SETS, in percent."""
    rates = row["published"]["wer_percent"]
    return next((rates[name] for name in OTHER_SETS if name in rates), None)


def pareto_front(models: Sequence[Candidate]) -> list[Candidate]:
    """The models that no other beats in both, fastest first."""
    front: list[Candidate] = []
    for model in sorted(models, key=lambda model: (-model.speed, model.error)):
        if not front or model.error < front[-1].error:
            front.append(model)
    return front


def balanced(front: Sequence[Candidate]) -> Candidate:
    """The model of a Pareto front that is furthest from the line between its ends, on the axes of the chart."""
    fastest, best = front[0], front[-1]
    width, height = math.log(fastest.speed / best.speed), fastest.error - best.error

    def gain(model: Candidate) -> float:
        share = math.log(model.speed / best.speed) / width if width else 0.0
        return share - ((model.error - best.error) / height if height else 0.0)

    return max(front, key=gain)
