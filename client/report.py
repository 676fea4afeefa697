"""What a benchmark run amounts to: the figures, as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from client.load import LoadRun, Response
from client.scoring import NORMALIZATIONS, Score, score
from client.server_statistics import StepStatistics

PERCENTILES = (50, 95, 99)

CLOCK = "The clock runs from the first request to the last answer; audio files are read before it starts."


@dataclass(frozen=True)
class Setting:
    """What was asked of whom."""

    model: str
    url: str
    manifest: str
    concurrency: int
    normalization: str


@dataclass(frozen=True)
class Report:
    """The figures of one run. Failed utterances count nowhere but in `failures`."""

    setting: Setting
    interrupted: bool
    audio_seconds: float
    wall_seconds: float
    latency_ms: dict[str, float] | None
    """Percentiles by name (p50, ...); None where nothing was answered."""
    score: Score
    steps: Sequence[StepStatistics]
    answered: Sequence[Response]
    failures: Sequence[str]
    """One line for each utterance without a result."""

    @property
    def rtfx(self) -> float:
        """Seconds of audio recognized in a second of wall time."""
        return self.audio_seconds / self.wall_seconds if self.wall_seconds else 0.0


def build_report(setting: Setting, run: LoadRun, failures: Sequence[str], interrupted: bool) -> Report:
    """Score a run. `failures`: one line for each utterance that has no result, of whatever cause."""
    answered = [response for response in run.responses if response.error is None]
    references = [response.recording.utterance.text or "" for response in answered]
    return Report(
        setting=setting,
        interrupted=interrupted,
        audio_seconds=sum(response.recording.duration for response in answered),
        wall_seconds=run.wall_seconds,
        latency_ms=_percentiles([response.latency * 1000 for response in answered]),
        score=score(references, [response.text for response in answered], setting.normalization),
        steps=run.steps,
        answered=answered,
        failures=failures,
    )


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON values, with a row for each answered utterance in the order of the answers."""
    return {
        **dataclasses.asdict(report.setting),
        "normalization_statement": NORMALIZATIONS[report.setting.normalization].statement,
        "interrupted": report.interrupted,
        "utterances": len(report.answered),
        "failed": len(report.failures),
        "audio_seconds": report.audio_seconds,
        "wall_seconds": report.wall_seconds,
        "rtfx": report.rtfx,
        "latency_ms": report.latency_ms,
        "wer": report.score.wer,
        "word_counts": dataclasses.asdict(report.score),
        "steps": [dataclasses.asdict(step) for step in report.steps],
        "failures": list(report.failures),
        "rows": [_row(response) for response in report.answered],
    }


def print_report(report: Report, console: Console) -> None:
    """Print the table, and under it what a reader must know to compare it with another."""
    setting, words = report.setting, report.score
    errors = f"{words.substitutions} sub, {words.insertions} ins, {words.deletions} del in {words.words} words"
    figures = {
        "utterances": f"{len(report.answered)}",
        "failed": f"{len(report.failures)}",
        "audio": f"{report.audio_seconds:.1f} s",
        "wall": f"{report.wall_seconds:.2f} s",
        "RTFx": f"{report.rtfx:.1f}",
        "latency": _latency_text(report.latency_ms),
        "WER": f"{words.wer:.2%}  ({errors})" if words.wer is not None else f"undefined  ({errors})",
    }
    title = f"{setting.model} at {setting.url}, {setting.concurrency} in flight"
    table = Table(title=f"{title}, interrupted" if report.interrupted else title, title_justify="left")
    table.add_column("figure")
    table.add_column("value")
    for name, value in figures.items():
        table.add_row(name, value)
    console.print(table)
    if report.steps:
        console.print(_steps_table(report.steps))
    for sentence in (CLOCK, NORMALIZATIONS[setting.normalization].statement):
        console.print(sentence, soft_wrap=True, highlight=False)


def _steps_table(steps: Sequence[StepStatistics]) -> Table:
    table = Table(title="steps, by the server's own counters", title_justify="left")
    table.add_column("step", overflow="fold")
    for heading in ("requests", "batches", "mean batch", "queue ms", "compute ms"):
        table.add_column(heading, justify="right")
    for step in steps:
        means = (step.mean_batch_size, step.queue_ms, step.compute_ms)
        cells = ["-" if mean is None else f"{mean:.2f}" for mean in means]
        table.add_row(step.model, str(step.inferences), str(step.executions), *cells)
    return table


def _percentiles(latencies: Sequence[float]) -> dict[str, float] | None:
    if not latencies:
        return None
    return {f"p{rank}": float(np.percentile(latencies, rank)) for rank in PERCENTILES}


def _latency_text(latency_ms: dict[str, float] | None) -> str:
    return ", ".join(f"{name} {value:.0f} ms" for name, value in (latency_ms or {}).items()) or "-"


def _row(response: Response) -> dict[str, Any]:
    return {
        "audio": response.recording.utterance.name,
        "duration": response.recording.duration,
        "reference": response.recording.utterance.text,
        "text": response.text,
        "latency_ms": response.latency * 1000,
    }
