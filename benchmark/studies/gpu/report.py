"""The page of the GPU benchmark, from its JSON alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmark.core.tables import NONE, Table, markdown, number, percentage, spread
from benchmark.studies.gpu.roofline import Json
from benchmark.studies.gpu.variants import UNBATCHED

NO_GPU = "no GPU"


def page(report: Json) -> str:
    """Markdown of everything."""
    parts = [f"# {_title(report)}", *_introduction(report), *map(markdown, tables(report))]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def tables(report: Json) -> list[Table]:
    """All tables."""
    return [served(report), beside_pytorch(report), rooflines(report), stages(report), sweeps(report)]


def _title(report: Json) -> str:
    return f"Served on {report['gpus'][0]}" if report["gpus"] else "The GPU benchmark, on a CPU"


def _introduction(report: Json) -> list[str]:
    machine, dataset, durations = report["machine"], report["dataset"], report["durations"]
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB"
    packages = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    random_weights = [model["name"] for model in report["models"] if model["random_weights"]]
    paragraphs = []
    if report["no_gpu"]:
        left_out = ", ".join(report["not_on_cpu"]) or "none"
        paragraphs.append(
            f"**No GPU: {report['no_gpu']}. Every figure of a GPU is missing; those below are a CPU's and show that "
            f"the benchmark runs from end to end.** Ways that differ on a GPU only, not measured here: {left_out}."
        )
    paragraphs.append(
        f"Measured on {machine['cores']} cores of {machine['processor']}, {memory}, {machine['system']}"
        f"{'; ' + ', '.join(report['gpus']) if report['gpus'] else ''}, with {packages}; {report['onnxruntime']}. "
        "docs/method.md says how it is counted."
    )
    paragraphs.append(
        f"{dataset['name']}: {dataset['utterances']} utterances, {dataset['seconds']:.0f} s in all, "
        f"{min(durations):.1f} to {max(durations):.1f} s, from {dataset['source']}."
    )
    if random_weights:
        named = ", ".join(random_weights)
        paragraphs.append(f"With **random weights**, so that no figure is one of a published model: {named}.")
    paragraphs.append("\n".join(f"- `{name}`: {what}" for name, what in report["ways"].items()))
    return paragraphs


def served(report: Json) -> Table:
    """Each model and way at its best concurrency."""
    rows = []
    for model in report["models"]:
        for way in model["served"]:
            if way["not_run"]:
                rows.append(
                    [model["name"], model["precision"], way["name"], f"not run: {way['not_run']}", *[NONE] * 11]
                )
                continue
            rows.append(
                [
                    model["name"],
                    model["precision"],
                    way["name"],
                    str(way["concurrency"]),
                    _rounds(way),
                    _times(way, model["served"]),
                    number(way["latency_ms"]["p50"]),
                    number(way["latency_ms"]["p95"]),
                    number(way["mean_batch_size"], 1),
                    *_gpu_cells(way, report),
                    percentage(way["cpu"]["mean"] if way["cpu"] else None),
                    _of(way["texts_as_nemo"], way["texts"]),
                    str(way["texts_changed"]),
                ]
            )
    return Table(
        "Served",
        [
            "model",
            "precision",
            "way",
            "in flight",
            "RTFx",
            "as fast as unbatched",
            "p50 ms",
            "p95 ms",
            "mean batch",
            "GPU busy",
            "GPU memory GiB",
            "GPU W",
            "CPU busy",
            "texts as NeMo's",
            "texts changed",
        ],
        rows,
        "By the real server, at the concurrency of the sweep with the highest throughput. RTFx: seconds of audio a "
        "second, median of rounds (lowest to highest), each of which has all ways in turn; 'as fast as unbatched' is "
        "taken round by round. Latency and all else: of the round of the median. Busy, memory and power are means of "
        "Triton's metrics over the load, of the whole machine. Mean batch: of the encoder. Texts: equal to those of "
        "NeMo in float32 on the same recordings sorted by length, which pads; with the front end that the installed "
        "NeMo has. Changed: texts that were not the same under every load.",
    )


def beside_pytorch(report: Json) -> Table:
    """The same recordings by NeMo's module in PyTorch."""
    rows = []
    for model in report["models"]:
        best = max((way["rtfx"] for way in model["served"] if not way["not_run"]), default=None)
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
        "Beside PyTorch",
        [
            "model",
            "PyTorch",
            "on",
            "batch",
            "RTFx",
            "up to the scores",
            "served is",
            "of the roofline",
            "texts as NeMo's",
        ],
        rows,
        "NeMo's own module on the same machine: audio to text in this process, all recordings at hand and sorted by "
        "length; bf16 is autocast. RTFx: median of the rounds (lowest to highest). Up to the scores: without decoding. "
        "Served is: how many times as fast the best served way of the model is, measured at another time of the run.",
    )


def rooflines(report: Json) -> Table:
    """How much of the roofline is reached."""
    rates = report["rates"]
    rows = [
        [
            model["name"],
            way["name"],
            limit["format"],
            number(limit["operations_per_second_of_audio"] / 1e9, 2),
            number(limit["bytes_per_second_of_audio"] / 1e6, 2),
            number(limit["rtfx"]),
            limit["limit"],
            _reached(way),
        ]
        for model in report["models"]
        for way in model["served"]
        if (limit := way.get("bound")) is not None
    ]
    if rates is None:
        note = (
            "The chip's rates are not known: it is not among those whose data sheets are here, and PyTorch did not run."
        )
    else:
        listed = ", ".join(f"{name} {rate / 1e12:.3g} T/s" for name, rate in rates["operations"].items())
        note = f"{rates['chip']}: {listed}, {rates['bytes'] / 1e9:.0f} GB/s; {rates['source']}."
    return Table(
        "Roofline",
        ["model", "way", "format", "G operations/s", "MB/s", "roofline RTFx", "set by", "reached"],
        rows,
        f"{note} Operations and bytes of the encoder for a second of audio: matrix products and convolutions of each "
        "utterance by itself, without padding; weights are read once a batch. The roofline is the larger of operations "
        "by rate and bytes by bandwidth; features, decoding and all else are taken to be free.",
    )


def stages(report: Json) -> Table:
    """What each stage takes of the computing."""
    rows = [
        [model["name"], way["name"], stage, percentage(share)]
        for model in report["models"]
        for way in model["served"]
        for stage, share in way.get("shares", {}).items()
    ]
    return Table(
        "Stages",
        ["model", "way", "stage", "share"],
        rows,
        "Of all stages' computing, by the wall clock of their executions (Triton's counters). On a GPU, stages on it "
        "share it; a stage on the CPU runs beside them.",
    )


def sweeps(report: Json) -> Table:
    """All concurrencies."""
    rows = [
        [
            model["name"],
            way["name"],
            str(load["concurrency"]),
            number(load["rtfx"], 1),
            number(load["p50_ms"]),
            number(load["p95_ms"]),
            number(load["mean_batch_size"], 1),
        ]
        for model in report["models"]
        for way in model["served"]
        for load in way.get("sweep", [])
    ]
    return Table(
        "Sweeps",
        ["model", "way", "in flight", "RTFx", "p50 ms", "p95 ms", "mean batch"],
        rows,
        "Closed loops, one after the other on one server.",
    )


def _rounds(row: Json) -> str:
    rounds = row["rtfx_by_round"]
    return spread(rounds, 1, row["rtfx"])


def _times(way: Json, ways: Sequence[Json]) -> str:
    """How many times as fast as unbatched, round by round."""
    unbatched = [other for other in ways if other["name"] == UNBATCHED and not other["not_run"]]
    if not unbatched or way["name"] == UNBATCHED:
        return NONE
    ratios = [ours / theirs for ours, theirs in zip(way["rtfx_by_round"], unbatched[0]["rtfx_by_round"], strict=True)]
    return spread(ratios, 2)


def _gpu_cells(way: Json, report: Json) -> list[str]:
    if not report["gpus"]:
        return [NO_GPU] * 3
    (gpu, *_) = way["gpus"] or [{"busy": None, "memory_bytes": None, "watts": None}]
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
