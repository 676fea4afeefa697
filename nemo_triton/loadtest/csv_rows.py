"""Results as rows for spreadsheets: one row per load, flat columns with units in their names."""

from __future__ import annotations

from nemo_triton.loadtest.figures import LoadFigures, Results
from nemo_triton.loadtest.recording import PERCENTILES

Row = dict[str, str | int | float | None]

_LATENCIES = ("mean", *(f"p{rank}" for rank in PERCENTILES), "max")
COLUMNS = (
    "model",
    "precision",
    "parameters",
    "checkpoint_bytes",
    "server",
    "url",
    "started",
    "machine",
    "manifest",
    "load",
    "concurrency",
    "rate_per_second",
    "answered",
    "failed",
    "deadlines_exceeded",
    "refused",
    "refusals",
    "refusal_p95_ms",
    "retries",
    "audio_seconds",
    "wall_seconds",
    "rtfx",
    "requests_per_second",
    *(f"latency_{name}_ms" for name in _LATENCIES),
    "mean_batch_size",
    "wer",
    "cer",
    "server_cpu_mean",
    "server_memory_max_bytes",
    "gpu_busy_mean",
    "gpu_memory_max_bytes",
    "slo",
    "slo_kept",
    "complete",
)
"""Columns of the file. Rates, WER and utilizations are fractions."""
CSV_START = ",".join(COLUMNS[:2])
"""Start of the file, also of files that earlier versions wrote."""


def csv_rows(results: Results) -> list[Row]:
    """Convert the results to one row per load; a value that is not known is None."""
    misses = {trial.load.name: trial.miss for trial in results.search.trials} if results.search else {}
    return [_row(results, load, misses.get(load.name)) for load in results.loads]


def _row(results: Results, load: LoadFigures, miss: str | None) -> Row:
    setting, scores = results.setting, results.score
    latencies = load.latency_ms or {}
    cpu = load.usage.cpu if load.usage else None
    memory = load.usage.memory_bytes if load.usage else None
    gpus = load.usage.gpus if load.usage else ()
    busy = [gpu.busy.mean for gpu in gpus if gpu.busy]
    gpu_memory = [gpu.memory_bytes.highest for gpu in gpus if gpu.memory_bytes]
    return {
        "model": setting["model"],
        "precision": setting["precision"],
        "parameters": setting["parameters"],
        "checkpoint_bytes": setting["checkpoint_bytes"],
        "server": setting["server"],
        "url": setting["url"],
        "started": setting["started"],
        "machine": f"{setting['machine']['processor']}, {setting['machine']['cores']} cores",
        "manifest": setting["manifest"],
        "load": load.name,
        "concurrency": load.load.get("concurrency"),
        "rate_per_second": load.load.get("rate"),
        "answered": load.answered,
        "failed": load.failed,
        "deadlines_exceeded": load.deadlines_exceeded,
        "refused": load.refused,
        "refusals": load.refusals,
        "refusal_p95_ms": load.refusal_ms["p95"] if load.refusal_ms else None,
        "retries": load.retries,
        "audio_seconds": load.audio_seconds,
        "wall_seconds": load.wall_seconds,
        "rtfx": load.rtfx,
        "requests_per_second": load.requests_per_second,
        **{f"latency_{name}_ms": latencies.get(name) for name in _LATENCIES},
        "mean_batch_size": load.mean_batch_size,
        "wer": scores.wer.value,
        "cer": scores.cer.value,
        "server_cpu_mean": cpu.mean if cpu else None,
        "server_memory_max_bytes": memory.highest if memory else None,
        "gpu_busy_mean": sum(busy) / len(busy) if busy else None,
        "gpu_memory_max_bytes": sum(gpu_memory) if gpu_memory else None,
        "slo": results.search.objective.name if results.search else None,
        "slo_kept": None if miss is None else "no" if miss else "yes",
        "complete": "yes" if results.complete else "no",
    }
