"""The tables of docs/fuzz.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from verification.fuzz.campaign import ENDED, Results
from verification.fuzz.folder_run import Results as FolderResults
from verification.fuzz.sending import ANSWERED, HUNG

MAX_LINES = 20
"""Findings that are listed."""


def requests_summary(results: Results, *, seed: int, patience: float) -> str:
    """The results of mutated requests, as Markdown."""
    hung = sum(count for (_, _, result), count in results.counts.items() if result == HUNG)
    ends = sum(count for (_, _, result), count in results.counts.items() if result == ENDED) + len(results.unexplained)
    lines = [
        f"{results.sent:,} mutated requests in {results.seconds:.0f} s, seed {seed}: "
        f"**the server ended {ends} times, {hung} requests hung** (no response within {patience:.0f} s). "
        f"{results.good:,} valid requests meanwhile: **{len(results.wrong)} failed or had another text**; "
        f"{results.retried:,} were sent again on the other server.",
        "",
        "| protocol | request for | sent | answered | refused | hung | server ended |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for protocol, model in sorted({(protocol, model) for protocol, model, _ in results.counts}):
        row = {result: n for (*key, result), n in results.counts.items() if key == [protocol, model]}
        sent, answered = sum(row.values()), row.get(ANSWERED, 0)
        hung, ended = row.get(HUNG, 0), row.get(ENDED, 0)
        refused = sent - answered - hung - ended
        lines.append(f"| {protocol} | {model} | {sent:,} | {answered:,} | {refused:,} | {hung:,} | {ended:,} |")
    results_of_all: Counter[str] = Counter()
    for (protocol, _, result), count in results.counts.items():
        results_of_all[f"{protocol} {result}"] += count
    memory = [f"{size / 2**20:,.0f} MiB" for size in results.memory]
    lines += [
        "",
        f"Results: {_listed(results_of_all)}.",
        f"Mutations: {_listed(results.mutations)}.",
        f"Left out because they are known to end the server: {_listed(results.skipped) or 'none'}.",
        f"Memory of the fuzzed server: {' at its start, '.join(memory)} at the end.",
        *_findings(results),
    ]
    return "\n".join(lines)


def transcribe_summary(results: FolderResults, *, seed: int) -> str:
    """The results of transcribe.py over good and mutated files, as Markdown."""
    inputs = f"{results.good:,} good and {results.mutated:,} mutated files and lines in {results.seconds:.0f} s"
    mutated = f"{results.mutated_with_text:,} that could still be read | {results.lines:,}"
    lines = [
        f"{inputs}, seed {seed}: **{len(results.wrong)} had another result than they must have.**",
        "",
        "| input | number | text | error line |",
        "| --- | --- | --- | --- |",
        f"| good | {results.good:,} | {results.good:,}, each the right one | 0 |",
        f"| mutated | {results.mutated:,} | {mutated} |",
        *([""] if results.wrong else []),
        *(f"- {line}" for line in results.wrong[:MAX_LINES]),
    ]
    return "\n".join(lines)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _findings(results: Results) -> list[str]:
    lines = [
        f"- {finding.request.protocol} to {finding.request.model}, {' and '.join(finding.request.mutations)} "
        f"(`{finding.file.name}`): {finding.outcome}"
        for finding in results.findings
    ]
    lines += [f"- no single request repeats it: {line}" for line in results.unexplained]
    lines += [f"- valid request: {line}" for line in results.wrong]
    return ["", "Findings:", "", *lines[:MAX_LINES]] if lines else []


def readers_summary(rows: Sequence[tuple[str, int, int, float, str]], *, seed: int) -> str:
    """The results of mutated files, as Markdown.

    Args:
        rows: Reader, number of files, number of these with a result, seconds, and what is wrong or "".
        seed: First seed.
    """
    lines = [
        f"{sum(files for _, files, *_ in rows):,} files in {sum(row[3] for row in rows):.0f} s, from seed {seed}: "
        f"**{sum(bool(row[4]) for row in rows)} readers did something that they don't document.**",
        "",
        "| reader | files | read | refused | seconds | unexpected |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {files:,} | {read:,} | {files - read:,} | {seconds:.0f} | {wrong or 'nothing'} |"
        for name, files, read, seconds, wrong in rows
    ]
    return "\n".join(lines)
