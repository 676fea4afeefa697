"""Profiles of one batch: nodes by onnxruntime's profiler, GPU kernels by PyTorch's."""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.studies.gpu.batches import Batch
from benchmark.studies.gpu.cuts import Cut
from benchmark.studies.gpu.ensemble import Ensemble
from benchmark.studies.gpu.stage import Setup, Stage, next_feeds

RUNS = 2
"""Runs of each stage in one profile."""
TOP_KERNELS = 40


def profile_stages(
    repository: Path, ensemble: Ensemble, batch: Batch, setup: Setup, *, prefix: str, cut: Cut
) -> dict[str, Any]:
    """Run each stage with onnxruntime's profiler.

    Args:
        repository: The model repository.
        ensemble: The recognizer.
        batch: Utterances to run.
        setup: Device and options of all stages.
        prefix: Prefix of the profiles' paths. The encoder's is kept, as PREFIX.encoder.profile.json.gz.
        cut: Setting of length bucketing in the encoder.

    Returns:
        The result of `summarise` for features, encoder and decoder.
    """
    feeds = batch.feeds()
    summaries = {}
    for part in ("features", "encoder", "decoder"):
        is_encoder = part == "encoder"
        profiled = replace(setup, tf32=is_encoder, cut=cut if is_encoder else None, profile=f"{prefix}.{part}")
        stage = Stage(repository / getattr(ensemble, part), profiled)
        for _ in range(RUNS):
            results = stage.run(feeds)
        file = Path(stage.session.end_profiling())
        summaries[part] = summarise(json.loads(file.read_text()), RUNS)
        if is_encoder:
            Path(f"{prefix}.{part}.profile.json.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
        if part != "decoder":
            feeds = next_feeds(results, setup.device)
    return summaries


def summarise(events: Sequence[Mapping[str, Any]], runs: int) -> dict[str, dict[str, dict[str, float]]]:
    """Count the nodes of an onnxruntime profile.

    Args:
        events: The profile's JSON.
        runs: Number of runs in the profile.

    Returns:
        By provider and operator, per run: how often nodes ran (runs), and their milliseconds on the host (host_ms).
    """
    nodes: Counter[tuple[str, str]] = Counter()
    microseconds: Counter[tuple[str, str]] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["args"].get("provider", ""), event["args"].get("op_name", ""))
            nodes[key] += 1
            microseconds[key] += event["dur"]
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for (provider, operator), spent in sorted(microseconds.items(), key=lambda item: (item[0][0], -item[1])):
        figures = {"runs": nodes[provider, operator] / runs, "host_ms": spent / runs / 1000}
        summary.setdefault(provider, {})[operator] = figures
    return summary


def record_kernels(features: Stage, encoder: Stage, batch: Batch) -> dict[str, Any] | None:
    """Record the GPU kernels of one batch in the encoder; None if PyTorch is not installed.

    PyTorch's profiler records the kernels of the whole process, with those of onnxruntime.
    """
    try:
        from torch.profiler import ProfilerActivity
        from torch.profiler import profile as record
    except ImportError:
        return None
    feeds = next_feeds(features.run(batch.feeds()), encoder.device)
    encoder.run(feeds)
    with record(activities=[ProfilerActivity.CUDA]) as recorded:
        started = time.perf_counter()
        encoder.run(feeds)
        wall_seconds = time.perf_counter() - started
    kernels = [(kernel.key, kernel.count, kernel.self_device_time_total) for kernel in recorded.key_averages()]
    kernels.sort(key=lambda kernel: -kernel[2])
    return {
        "wall_ms": 1000 * wall_seconds,
        "busy_ms": sum(microseconds for _, _, microseconds in kernels) / 1000,
        "kernels": sum(count for _, count, _ in kernels),
        "top": [
            {"name": name[:120], "runs": count, "ms": spent / 1000} for name, count, spent in kernels[:TOP_KERNELS]
        ],
    }
