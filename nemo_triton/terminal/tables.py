"""The results of a load test as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_triton.loadtest.figures import BUSY_CLIENT, CLOCK, KNEE, SATURATED, LoadFigures, Results, worst_utterances
from nemo_triton.loadtest.server_counters import StepStatistics
from nemo_triton.loadtest.server_metrics import Level
from nemo_triton.loadtest.wer import NORMALIZATIONS, ErrorCounts, Rate, alignment

_LATE_MS = 20.0
"""An open loop that sends its requests later than this gets a warning."""
_SHORT_SECONDS = 4.0
"""A load that is measured for less time gets a warning."""


def print_results(results: Results, worst_limit: int, console: Console) -> None:
    """Print the tables, then remarks that a reader needs to compare them with other results.

    Args:
        results: Figures of a run.
        worst_limit: Number of utterances to print, those with the most wrong words.
        console: Terminal or file to print to.
    """
    setting = results.setting
    reduced = "" if setting["precision"] == "fp32" else f" in {setting['precision']}"
    title = f"{setting['model']}{reduced} at {setting['url']}"
    if not results.complete:
        title += ", incomplete"
    if len(results.loads) == 1:
        console.print(_one_load(title, results, results.loads[0]))
    else:
        console.print(_accuracy(title, results))
        console.print(_sweep(results))
    if results.search:
        console.print(escape(_search_text(results)), soft_wrap=True, highlight=False, style="bold")
    detailed = results.best or max(results.loads, key=lambda load: load.rtfx, default=None)
    if detailed and detailed.steps:
        console.print(_steps_table(detailed))
    if detailed and len(detailed.endpoints) > 1:
        console.print(_endpoints_table(detailed))
    for scored in worst_utterances(results, worst_limit):
        errors = f"{scored.audio}: {scored.pair.words.errors} wrong\n{alignment(scored.pair)}"
        console.print(errors, soft_wrap=True, highlight=False, markup=False)
    for sentence in _remarks(results):
        console.print(escape(sentence), soft_wrap=True, highlight=False)


def _one_load(title: str, results: Results, load: LoadFigures) -> Table:
    rows = {
        "manifest": str(results.setting["manifest"]),
        "utterances": f"{results.utterances}",
        "failed": _failed(results, results.loads),
        **_refused(load),
        "audio": f"{load.audio_seconds:.1f} s",
        "wall": f"{load.wall_seconds:.2f} s",
        "RTFx": f"{load.rtfx:.1f}",
        "requests": f"{load.requests_per_second:.2f} per second",
        "latency": _latency_text(load.latency_ms),
        **_rates(results),
        **_machine(load),
    }
    return _figures_table(f"{title}, {load.name}", rows)


def _accuracy(title: str, results: Results) -> Table:
    rows = {
        "manifest": str(results.setting["manifest"]),
        "utterances": f"{results.utterances}",
        "failed": _failed(results, results.loads),
        **_rates(results),
    }
    return _figures_table(title, rows)


def _figures_table(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _failed(results: Results, loads: Sequence[LoadFigures]) -> str:
    deadlines = sum(load.deadlines_exceeded for load in loads)
    retries = sum(load.retries for load in loads)
    details = [f"{deadlines} by deadline" if deadlines else "", f"{retries} retries" if retries else ""]
    return ", ".join([str(len(results.failures)), *filter(None, details)])


def _refused(load: LoadFigures) -> dict[str, str]:
    """Requests that full queues refused, and the refusals that retries got over; empty without any."""
    if not load.refusals:
        return {}
    if load.refusal_ms is None:
        return {"refused": f"0 ({load.refusals} refusals by a full queue, retried)"}
    latency = _latency_text(load.refusal_ms)
    if load.waits:
        return {"refused": f"{load.refused} without room in time, {latency} ({load.refusals} refusals by a full queue)"}
    return {"refused": f"{load.refused} by a full queue, {latency}"}


def _rates(results: Results) -> dict[str, str]:
    scores = results.score
    return {
        "WER": _rate_text(scores.wer, scores.words, "words"),
        "CER": _rate_text(scores.cer, scores.characters, "characters"),
    }


def _rate_text(rate: Rate, counts: ErrorCounts, unit: str) -> str:
    errors = f"{counts.substitutions} sub, {counts.insertions} ins, {counts.deletions} del in {counts.total} {unit}"
    if rate.value is None or rate.interval is None:
        return f"undefined  ({errors})"
    low, high = rate.interval
    return f"{rate.value:.2%}  ({errors}; 95 % interval {low:.2%} to {high:.2%})"


def _latency_text(latencies: Mapping[str, float] | None) -> str:
    latencies = latencies or {}
    return ", ".join(f"{name} {latencies[name]:.0f} ms" for name in ("p50", "p95", "p99") if name in latencies) or "-"


def _machine(load: LoadFigures) -> dict[str, str]:
    """CPU, memory and GPU of the server's machine, from Triton's metrics."""
    rows = {}
    for url, usage in load.usages.items():
        suffix = f" of {url}" if len(load.usages) > 1 else ""
        if usage.cpu:
            rows[f"CPU{suffix}"] = _busy_text(usage.cpu)
        if usage.memory_bytes:
            highest = usage.memory_bytes.highest / 2**30
            rows[f"memory{suffix}"] = f"{highest:.2f} GiB at most, all programs on the server's machine"
        for gpu in usage.gpus:
            memory = f", {gpu.memory_bytes.highest / 2**30:.2f} GiB at most" if gpu.memory_bytes else ""
            rows[f"GPU {gpu.uuid[:12]}{suffix}"] = (_busy_text(gpu.busy) if gpu.busy else "-") + memory
    return rows


def _busy_text(level: Level) -> str:
    return f"{level.mean:.0%} busy, {level.highest:.0%} at most"


def _sweep(results: Results) -> Table:
    trials = {trial.load.name: trial for trial in results.search.trials} if results.search else {}
    percentiles = ["p50", "p95", "p99"]
    if results.search and results.search.objective.key not in percentiles:
        percentiles = ["p50", "p90", "p95", "p99"]
    table = Table(title="by load", title_justify="left")
    table.add_column("load")
    latency_headings = [f"{name} ms" for name in percentiles]
    refused = any(load.refusals for load in results.loads)
    for heading in (
        "answered",
        "failed",
        *(("refused", "refusals") if refused else ()),
        "RTFx",
        "per second",
        *latency_headings,
        "mean batch",
    ):
        table.add_column(heading, justify="right")
    if results.search:
        table.add_column(f"keeps {results.search.objective.name}")
    for load in results.loads:
        latencies = load.latency_ms or {}
        cells = [f"{latencies[name]:.0f}" if name in latencies else "-" for name in percentiles]
        batch = "-" if load.mean_batch_size is None else f"{load.mean_batch_size:.2f}"
        rates = (f"{load.rtfx:.1f}", f"{load.requests_per_second:.2f}")
        trial = trials.get(load.name)
        verdict = [f"no: {trial.miss}" if trial.miss else "yes"] if trial else []
        counts = (load.answered, load.failed, *((load.refused, load.refusals) if refused else ()))
        table.add_row(load.name, *map(str, counts), *rates, *cells, batch, *verdict)
    return table


def _search_text(results: Results) -> str:
    """The result of a search for a rate, and how to confirm it."""
    search, best = results.search, results.best
    assert search is not None
    objective = search.objective.name
    if not search.finished:
        return f"The search for the highest rate that keeps {objective} was not finished."
    if best is None:
        return f"{search.failure}."
    bound = f"{search.missed_rate:g} per second misses it" if search.missed_rate else "no higher rate was tried"
    rate = f"{best.load['rate']:g} requests per second"
    return (
        f"Highest rate that keeps {objective}: {rate} (RTFx {best.rtfx:.1f}; {bound}).\n"
        f"To confirm it with a longer trial: --rate {best.load['rate']:g} --duration 60"
    )


def _steps_table(load: LoadFigures) -> Table:
    table = Table(title=f"stages with {load.name}, by Triton's statistics", title_justify="left")
    table.add_column("stage", overflow="fold")
    for heading in ("requests", "batches", "mean batch", "queue ms", "input ms", "infer ms", "output ms"):
        table.add_column(heading, justify="right")
    table.add_column("batches by size", overflow="fold")
    for step in load.steps:
        means = (step.mean_batch_size, step.queue_ms, step.input_ms, step.infer_ms, step.output_ms)
        cells = ["-" if mean is None else f"{mean:.2f}" for mean in means]
        table.add_row(step.model, str(step.inferences), str(step.executions), *cells, _histogram(step))
    return table


def _endpoints_table(load: LoadFigures) -> Table:
    table = Table(title=f"servers with {load.name}", title_justify="left")
    table.add_column("server", overflow="fold")
    for heading in ("answered", "requests by Triton's statistics", "mean batch"):
        table.add_column(heading, justify="right")
    for figures in load.endpoints:
        counted = str(figures.recognizer.inferences) if figures.recognizer else "-"
        batch = "-" if figures.mean_batch_size is None else f"{figures.mean_batch_size:.2f}"
        table.add_row(figures.endpoint, str(figures.answered), counted, batch)
    return table


def _histogram(step: StepStatistics) -> str:
    return " ".join(f"{size}:{count}" for size, count in sorted(step.batch_sizes.items()))


def _remarks(results: Results) -> Iterator[str]:
    if results.setting["random_weights"]:
        yield "This model has random weights: its speed is valid, its texts and WER mean nothing."
    if any(load.wall_seconds < _SHORT_SECONDS for load in results.loads):
        yield f"Measured for less than {_SHORT_SECONDS:g} s; use a longer --duration for steadier figures."
    for load in results.loads:
        if load.client_busy is not None and load.client_busy > BUSY_CLIENT:
            yield (
                f"{load.name}: a sending process was busy {load.client_busy:.0%} of the time, so the client may be the "
                "limit; try more --processes, or --shared-memory on the server's machine."
            )
        if load.late_ms is not None and load.late_ms > _LATE_MS:
            yield f"{load.name}: requests were sent {load.late_ms:.0f} ms late (p95); try more --processes."
        if load.loop_lag_ms is not None and load.loop_lag_ms > _LATE_MS:
            yield (
                f"{load.name}: the client waited {load.loop_lag_ms:.0f} ms for a CPU (p95), so it may be the limit; "
                "run it on another machine or on reserved cores."
            )
        if load.sessions > 1:
            yield f"{load.name}: measured in {load.sessions} sessions; CPU and memory are those of the last session."
        if not load.counters_complete:
            yield f"{load.name}: Triton's statistics lack a session that was killed, or servers that came or went."
    if results.changed_texts:
        yield (
            f"Utterances that got different texts in different requests: {len(results.changed_texts)}, the first is "
            f"{results.changed_texts[0]}."
        )
    if results.saturation:
        yield f"Saturation (lowest load with {SATURATED:.0%} of the highest throughput): {results.saturation.name}."
    if results.knee:
        yield (f"Knee (last rate before p95 latency exceeds {KNEE:g} times that of the lowest rate): {results.knee}.")
    if results.setting.get("metrics_problem"):
        yield str(results.setting["metrics_problem"])
    machine = results.setting["machine"]
    yield f"Client: {machine['processor']}, {machine['cores']} cores. Server: {results.setting['server']}."
    yield CLOCK
    yield NORMALIZATIONS[results.setting["normalization"]].statement
