"""The summary of an attack, as Markdown."""

from __future__ import annotations

from verification.attack.assault import (
    LEAVE_WITHIN,
    LEAVING_SHARE,
    LEFT,
    LOG_PROBS_SHARE,
    RIGHT,
    Attack,
    Outcome,
)
from verification.attack.cases import ROUNDING_WITHIN

ABSENT = "-"
MOST_LINES = 20
"""Of what went wrong."""


def markdown(attack: Attack, outcome: Outcome) -> str:
    """A table of what became of each kind of request, and the server's memory."""
    fates = {case.kind: case.fate for case in attack.cases}
    lines = [
        "# Good and bad requests in one company",
        "",
        f"{outcome.answered:,} requests, {attack.at_once} clients at once, to {' and '.join(attack.models)} on one "
        f"server: **{len(outcome.wrong)} wrong answers, {outcome.deaths} processes died.** A right answer is the text "
        f"that the same request got alone, or the refusal that it deserves. In {LEAVING_SHARE:.0%} of the requests the "
        f"client leaves within {LEAVE_WITHIN} s, cancelling or by a deadline.",
        "",
        f"| request | should be | sent | {RIGHT} | {LEFT} | wrong | log-probs |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, fate in fates.items():
        became = {what: count for (sent_kind, what), count in outcome.counts.items() if sent_kind == kind}
        sent, right, left = sum(became.values()), became.get(RIGHT, 0), became.get(LEFT, 0)
        difference = outcome.log_probs_differences.get(kind)
        differs = ABSENT if difference is None else f"{difference:.1e}"
        lines.append(f"| {kind} | {fate} | {sent:,} | {right:,} | {left:,} | {sent - right - left} | {differs} |")
    lines += [
        "",
        f"Log-probs: by how much they differ at most from those alone, asked for with {LOG_PROBS_SHARE:.0%} of the "
        "requests to CTC models. A full-scale square wave, which repeats exactly, has a bound of its own, "
        f"{ROUNDING_WITHIN:g}, set after it had moved by 3.7e-3; the bound is {attack.cases[0].log_probs_within:g} "
        "elsewhere. Why it moves is not established; rounding in mel bands that it leaves empty is likely.",
        "",
        f"Memory of all the server's processes: {_memory(outcome)}.",
        "",
    ]
    if outcome.wrong:
        lines += ["Wrong:", "", *(f"- {line}" for line in outcome.wrong[:MOST_LINES]), ""]
    return "\n".join(lines)


def _memory(outcome: Outcome) -> str:
    """At the beginning, half way and at the end."""
    half = min(outcome.footprints, key=lambda entry: abs(entry[0] - outcome.answered / 2))
    moments = [outcome.footprints[0], half, outcome.footprints[-1]]
    sizes = ", ".join(f"{footprint.memory / 2**20:,.0f} MiB after {count:,}" for count, footprint in moments)
    growth = moments[-1][1].memory / half[1].memory - 1 if half[1].memory else 0.0
    return f"{sizes} requests in company; the second half adds {growth:+.1%}"
