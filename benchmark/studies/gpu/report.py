"""Write the page of the GPU benchmark from its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmark.core.tables import NONE, Table, markdown, number, percentage, spread
from benchmark.studies.gpu.roofline import Json
from benchmark.studies.gpu.variants import UNBATCHED

NO_GPU = "no GPU"
COMMAND = """Served throughput and latency, compared with PyTorch and with the roofline. Run in the checkout; on a GPU
machine, give both commands `SERVER=server-gpu`:

```sh
make install
make benchmark-gpu
```"""
LIMITS = {"operations": "FLOPs", "bytes": "memory traffic"}
"""What limits the roofline, by its name in the JSON."""


def page(report: Json) -> str:
    """The page as Markdown."""
    parts = [f"# {_title(report)}", *_introduction(report), *map(markdown, tables(report))]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def tables(report: Json) -> list[Table]:
    """All tables of the page."""
    return [served(report), pytorch(report), rooflines(report), stages(report), sweeps(report)]


def _title(report: Json) -> str:
    return f"Served on {report['gpus'][0]}" if report["gpus"] else "The GPU benchmark, run on a CPU"


def _introduction(report: Json) -> list[str]:
    machine, dataset, durations = report["machine"], report["dataset"], report["durations"]
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB"
    packages = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    random_weights = [model["name"] for model in report["models"] if model["random_weights"]]
    paragraphs = [COMMAND]
    if report["no_gpu"]:
        left_out = ", ".join(report["not_on_cpu"]) or "none"
        paragraphs.append(
            f"**No GPU: {report['no_gpu']}.** All figures below are of a CPU. They show that the benchmark runs from "
            f"start to end. Variants that differ only on a GPU were not measured: {left_out}."
        )
    paragraphs.append(
        f"Machine: {machine['cores']} cores of {machine['processor']}, {memory}, {machine['system']}"
        f"{'; ' + ', '.join(report['gpus']) if report['gpus'] else ''}. Software: {packages}; {report['onnxruntime']}."
    )
    paragraphs.append(
        f"Data set {dataset['name']}: {dataset['utterances']} utterances, {dataset['seconds']:.0f} s in total, "
        f"{min(durations):.1f} to {max(durations):.1f} s each, from {dataset['source']}."
    )
    if random_weights:
        paragraphs.append(f"**Random weights**, no figure is of a published model: {', '.join(random_weights)}.")
    listed = "\n".join(f"- `{name}`: {description}" for name, description in report["ways"].items())
    paragraphs.append(f"Variants:\n\n{listed}")
    return paragraphs


def served(report: Json) -> Table:
    """Each model and variant at its best concurrency."""
    rows = []
    for model in report["models"]:
        for variant in model["served"]:
            if variant["not_run"]:
                rows.append(
                    [model["name"], model["precision"], variant["name"], f"not run: {variant['not_run']}", *[NONE] * 11]
                )
                continue
            rows.append(
                [
                    model["name"],
                    model["precision"],
                    variant["name"],
                    str(variant["concurrency"]),
                    _rounds(variant),
                    _times(variant, model["served"]),
                    number(variant["latency_ms"]["p50"]),
                    number(variant["latency_ms"]["p95"]),
                    number(variant["mean_batch_size"], 1),
                    *_gpu_cells(variant, report),
                    percentage(variant["cpu"]["mean"] if variant["cpu"] else None),
                    _of(variant["texts_as_nemo"], variant["texts"]),
                    str(variant["texts_changed"]),
                ]
            )
    return Table(
        "Served",
        [
            "model",
            "precision",
            "variant",
            "concurrency",
            "RTFx",
            "speedup over unbatched",
            "p50 ms",
            "p95 ms",
            "mean batch",
            "GPU busy",
            "GPU memory GiB",
            "GPU W",
            "CPU busy",
            "same text as NeMo",
            "texts changed",
        ],
        rows,
        "Each variant at the concurrency with the highest throughput in its sweep.\n\n"
        "| column | meaning |\n"
        "| --- | --- |\n"
        "| RTFx | seconds of audio per second, median of the rounds (lowest to highest); a round has all variants in "
        "turn |\n"
        "| speedup over unbatched | RTFx divided by that of `unbatched`, round by round |\n"
        "| p50, p95, and all columns to the right | of the round with the median RTFx |\n"
        "| mean batch | of the encoder |\n"
        "| GPU busy, GPU W, CPU busy | means of Triton's metrics during the load, of the whole machine |\n"
        "| GPU memory | highest value of Triton's metric during the load |\n"
        "| same text as NeMo | NeMo in float32, on padded batches of the same recordings, with the front end of the "
        "installed NeMo |\n"
        "| texts changed | texts that were not the same under every load |",
    )


def pytorch(report: Json) -> Table:
    """The same recordings in PyTorch with NeMo's module."""
    rows = []
    for model in report["models"]:
        best = max((variant["rtfx"] for variant in model["served"] if not variant["not_run"]), default=None)
        for row in model["pytorch"]:
            rows.append(
                [
                    model["name"],
                    row["precision"],
                    row["device"],
                    str(row["batch"]),
                    _rounds(row),
                    number(row["encoding_rtfx"], 1),
                    number(best / row["rtfx"], 2) if best else NONE,
                    _reached(row),
                    _of(row["texts_as_nemo"], row["texts"]),
                ]
            )
        if model["no_pytorch"]:
            rows.append([model["name"], f"not run: {model['no_pytorch']}", *[NONE] * 7])
    return Table(
        "Compared with PyTorch",
        [
            "model",
            "PyTorch precision",
            "device",
            "batch",
            "RTFx",
            "RTFx without decoding",
            "served / PyTorch",
            "percentage of the roofline",
            "same text as NeMo",
        ],
        rows,
        "NeMo's module on the same machine, in one process: audio to text, all recordings sorted by length; bf16 is "
        "autocast. RTFx: median of the rounds (lowest to highest). Served / PyTorch: RTFx of the model's best served "
        "variant, measured at another time, divided by that of PyTorch.",
    )


def rooflines(report: Json) -> Table:
    """The percentage of the roofline that each variant reaches."""
    rates = report["rates"]
    rows = [
        [
            model["name"],
            variant["name"],
            limit["format"],
            number(limit["operations_per_second_of_audio"] / 1e9, 2),
            number(limit["bytes_per_second_of_audio"] / 1e6, 2),
            number(limit["rtfx"]),
            LIMITS[limit["limit"]],
            _reached(variant),
        ]
        for model in report["models"]
        for variant in model["served"]
        if (limit := variant.get("bound")) is not None
    ]
    if rates is None:
        note = "The chip's rates are unknown: its data sheet is not in benchmark/studies/gpu/gpus.py, and PyTorch did "
        note += "not run."
    else:
        listed = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in rates["operations"].items())
        note = f"Rates of {rates['chip']}: {listed}, {rates['bytes'] / 1e9:.0f} GB/s; {rates['source']}."
    return Table(
        "Roofline",
        [
            "model",
            "variant",
            "format",
            "GFLOP per second of audio",
            "MB per second of audio",
            "roofline RTFx",
            "limited by",
            "reached",
        ],
        rows,
        f"{note} FLOPs and bytes are of the encoder's matrix products and convolutions, for each single utterance, "
        "without padding. Weights are read once per batch. Features, decoding and other operators count as free.",
    )


def stages(report: Json) -> Table:
    """The percentage of execution time in each stage."""
    rows = [
        [model["name"], variant["name"], stage, percentage(share)]
        for model in report["models"]
        for variant in model["served"]
        for stage, share in variant.get("shares", {}).items()
    ]
    return Table(
        "Stages",
        ["model", "variant", "stage", "percentage of execution time"],
        rows,
        "Wall-clock time of the executions, from Triton's counters. On a GPU, stages share the GPU, and a stage on the "
        "CPU runs at the same time as they do.",
    )


def sweeps(report: Json) -> Table:
    """All concurrencies of the sweeps."""
    rows = [
        [
            model["name"],
            variant["name"],
            str(load["concurrency"]),
            number(load["rtfx"], 1),
            number(load["p50_ms"]),
            number(load["p95_ms"]),
            number(load["mean_batch_size"], 1),
        ]
        for model in report["models"]
        for variant in model["served"]
        for load in variant.get("sweep", [])
    ]
    return Table(
        "Sweeps",
        ["model", "variant", "concurrency", "RTFx", "p50 ms", "p95 ms", "mean batch"],
        rows,
        "Closed loops, one after the other on one server.",
    )


def _rounds(row: Json) -> str:
    rounds = row["rtfx_by_round"]
    return spread(rounds, 1, row["rtfx"])


def _times(variant: Json, variants: Sequence[Json]) -> str:
    """RTFx divided by that of the unbatched variant, round by round."""
    unbatched = [other for other in variants if other["name"] == UNBATCHED and not other["not_run"]]
    if not unbatched or variant["name"] == UNBATCHED:
        return NONE
    rounds = zip(variant["rtfx_by_round"], unbatched[0]["rtfx_by_round"], strict=True)
    return spread([rtfx / unbatched_rtfx for rtfx, unbatched_rtfx in rounds], 2)


def _gpu_cells(variant: Json, report: Json) -> list[str]:
    if not report["gpus"]:
        return [NO_GPU] * 3
    (gpu, *_) = variant["gpus"] or [{"busy": None, "memory_bytes": None, "watts": None}]
    return [
        percentage(_mean(gpu["busy"])),
        number(None if gpu["memory_bytes"] is None else gpu["memory_bytes"]["highest"] / 2**30, 1),
        number(_mean(gpu["watts"])),
    ]


def _mean(level: Json | None) -> float | None:
    return None if level is None else level["mean"]


def _reached(row: Json) -> str:
    limit: Any = row.get("bound")
    return percentage(row["rtfx"] / limit["rtfx"]) if limit else NONE


def _of(count: int | None, total: int) -> str:
    return NONE if count is None else f"{count}/{total}"
