"""The summary of an attack, as Markdown."""

from __future__ import annotations

from statistics import median

from verification.attack.assault import (
    CANCELLED,
    CANCELLED_FRACTION,
    CANCELLED_WITHIN,
    CORRECT,
    FOOTPRINT_EVERY,
    LOG_PROBS_FRACTION,
    Attack,
    Outcome,
)
from verification.attack.cases import SQUARE_WAVE_TOLERANCE
from verification.quarters import growth_after_warm_up, quarters

ABSENT = "-"
MAX_LINES = 20
"""Wrong responses that are listed."""

TITLE = "# Mixed valid and invalid requests"
COMMAND = """In the checkout, after `make install`:

```sh
make attack
```"""

ELSEWHERE = "Requests that end Triton itself are not among them: [security_server.md](security_server.md)."


def markdown(attack: Attack, outcome: Outcome) -> str:
    """The page: results by kind of request, and the server's memory."""
    fates = {case.kind: case.fate for case in attack.cases}
    lines = [
        TITLE,
        "",
        COMMAND,
        "",
        f"{outcome.answered:,} requests from {attack.concurrency} concurrent clients to {' and '.join(attack.models)} "
        f"on one server: **{len(outcome.wrong)} wrong responses, {outcome.deaths} processes died.** A correct response "
        "is the text that the same request gets unbatched, or the expected error. "
        f"In {CANCELLED_FRACTION:.0%} of the requests the client cancels or times out within {CANCELLED_WITHIN} s.",
        "",
        ELSEWHERE,
        "",
        f"| request | expected | sent | {CORRECT} | {CANCELLED} | wrong | log-prob difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, fate in fates.items():
        results = {result: count for (sent_kind, result), count in outcome.counts.items() if sent_kind == kind}
        sent, correct, cancelled = sum(results.values()), results.get(CORRECT, 0), results.get(CANCELLED, 0)
        difference = outcome.log_probs_differences.get(kind)
        cell = ABSENT if difference is None else f"{difference:.1e}"
        wrong = sent - correct - cancelled
        lines.append(f"| {kind} | {fate} | {sent:,} | {correct:,} | {cancelled:,} | {wrong} | {cell} |")
    lines += [
        "",
        "Log-prob difference: the largest between a request under load and the same request unbatched. "
        f"{LOG_PROBS_FRACTION:.0%} of the requests to CTC models request log-probs. "
        f"The limit is {attack.cases[0].tolerance:g}; for a full-scale square wave it is {SQUARE_WAVE_TOLERANCE:g}.",
        "",
        *_memory(outcome),
        "",
    ]
    if outcome.wrong:
        lines += ["Wrong responses:", "", *(f"- {line}" for line in outcome.wrong[:MAX_LINES]), ""]
    return "\n".join(lines)


def _memory(outcome: Outcome) -> list[str]:
    """A table of the server's memory by quarter of the requests.

    The lowest value of a quarter tells whether memory leaks: batches of long recordings keep theirs for some minutes.
    """
    sizes = [footprint.memory for _, footprint in outcome.footprints]
    growth = growth_after_warm_up(sizes, min)
    rows = [
        f"| {number} | {min(part) / 2**20:,.0f} | {median(part) / 2**20:,.0f} | {max(part) / 2**20:,.0f} |"
        for number, part in enumerate(quarters(sizes), start=1)
    ]
    return [
        "Memory of all server processes in MiB, measured after every "
        f"{FOOTPRINT_EVERY} requests. Batches of long recordings keep theirs for some minutes; "
        "[soak.md](soak.md) has 20 minutes without them.",
        "",
        "| quarter of the requests | lowest | median | highest |",
        "| ---: | ---: | ---: | ---: |",
        *rows,
        "",
        "Growth of the lowest from the second quarter to the last: "
        + ("not measured." if growth is None else f"{growth:+.1%}."),
    ]
