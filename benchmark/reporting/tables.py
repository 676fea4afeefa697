"""The report's tables: headings and cells, for Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmark.core.constants import COMPARED_AT, OURS, OWN_MODELS
from benchmark.core.loads import compared_load
from benchmark.core.scoring import sclite_agrees
from benchmark.core.tables import MB, NONE, Table, number, spread
from benchmark.reporting.speechloop import WORDS
from nemo_triton.loadtest.figures import KNEE, SATURATED
from nemo_triton.loadtest.wer import NORMALIZATIONS

Json = dict[str, Any]

AGREEMENT = {True: "as many errors", False: "more errors", None: NONE}
LOAD_HEADINGS = ("RTFx", "answered/s", "p50 ms", "p95 ms", "p99 ms", "mean batch", "CPU", "failed")


def all_tables(report: Json) -> list[Table]:
    """In the order of the page."""
    tables = [models(report), closed_loops(report), open_loops(report), stages(report)]
    tables += [comparison(compared) for compared in report["comparisons"]]
    return [*tables, accuracy(report), speechloop(report)]


def models(report: Json) -> Table:
    """The table of models: sizes, error rates, speed."""
    return Table(
        "Models",
        [
            "model",
            "family",
            "weights",
            "precision",
            "parameters, M",
            "checkpoint MB",
            "ONNX MB",
            "data",
            "WER",
            "published WER",
            f"RTFx, {COMPARED_AT} at once",
            "p50 ms",
            "p95 ms",
            "alone: p50 ms",
            "p95 ms",
            "knee",
        ],
        [_model_row(model) for model in report["models"]],
        f"Measured through the server. RTFx (seconds of audio a second): median of rounds with {COMPARED_AT} requests "
        "in flight (lowest to highest round), at different times of the run; latency in the median round, and of a "
        "request that is alone. Knee: see open loops. ONNX: all stages of the model, also those that it shares. "
        "A model with random weights has the speed of its architecture and no WER; its figures are of no published "
        f"model. Published WERs are NVIDIA's, from {report['published_source']}, on the sets named; they were not "
        "measured here. Models without data were not measured.",
    )


def _model_row(model: Json) -> list[str]:
    published = model["published"]
    known = published["million_parameters"] if published else None
    parameters = model.get("parameters")
    row = [
        model["model"],
        model["family"],
        "" if "random_weights" not in model else "random" if model["random_weights"] else "trained",
        model.get("precision", ""),
        number(parameters / 1e6 if parameters else known, 1),
        number(_megabytes(model.get("checkpoint_bytes")), 1),
        number(_megabytes(model.get("onnx_bytes")), 1),
        model["dataset"] or NONE,
        rate(model.get("wer"), model.get("wer_interval")),
        _published(published),
    ]
    if model["dataset"] is None:
        return row + [NONE] * 6
    rounds = model["rtfx_by_round"]
    return [
        *row,
        spread(rounds, 1, model["rtfx"]),
        *(_latency(model["latency_ms"], name) for name in ("p50", "p95")),
        *(_latency(model["latency_alone_ms"], name) for name in ("p50", "p95")),
        model["knee"] or NONE,
    ]


def _latency(latencies: Json | None, name: str) -> str:
    return number(latencies[name]) if latencies else NONE


def _published(published: Json | None) -> str:
    if published is None:
        return NONE
    return f"{' / '.join(f'{value:g}' for value in published['wer_percent'])} % ({published['measured_on']})"


def closed_loops(report: Json) -> Table:
    """Throughput and latency by concurrency."""
    return Table(
        "Closed loops",
        [
            "model",
            "data",
            "in flight",
            "RTFx",
            "requests/s",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "mean batch",
            "CPU",
            "failed",
        ],
        [
            [run["model"], run["dataset"]["name"], str(load["load"]["concurrency"]), *_load_cells(load)]
            for run in report["served"]
            for load in run["closed"]
        ],
        "So many requests in flight, the next one sent as one comes back. Mean batch: of the step that computes "
        "longest. CPU: of all cores of the machine, the client's share included, by Triton's metrics. "
        f"{_saturations(report)} Texts that were not the same under every load: "
        f"{sum(run['changed_texts'] for run in report['served'])}.",
    )


def _saturations(report: Json) -> str:
    saturations = [f"{run['model']} {run['saturation']}" for run in report["served"] if run["saturation"]]
    return f"The lowest concurrency with {SATURATED:.0%} of the highest throughput: {', '.join(saturations) or NONE}."


def open_loops(report: Json) -> Table:
    """Latency by offered load."""
    return Table(
        "Open loops",
        ["model", "data", "offered/s", *LOAD_HEADINGS, ""],
        [
            [
                run["model"],
                run["dataset"]["name"],
                number(load["load"]["rate"], 2),
                *_load_cells(load),
                "knee" if load["name"] == run["knee"] else "",
            ]
            for run in report["served"]
            for load in run["open"]
        ],
        "Requests at random moments (a Poisson process) whatever the server does; latency counts from when a request "
        f"was due. Knee: the last rate before the p95 exceeds {KNEE:g} times that of the lowest rate, where the sweep "
        "has it between two of its rates.",
    )


def _load_cells(load: Json) -> list[str]:
    latencies = load["latency_ms"] or {}
    cpu = (load["usage"] or {}).get("cpu")
    return [
        number(load["rtfx"], 1),
        number(load["requests_per_second"], 2),
        *(number(latencies.get(name)) for name in ("p50", "p95", "p99")),
        number(load["mean_batch_size"], 2),
        f"{cpu['mean']:.0%}" if cpu else NONE,
        str(load["failed"]),
    ]


def stages(report: Json) -> Table:
    """Where a request's time goes under the load that models are compared by."""
    return Table(
        "Stages",
        ["model", "data", "stage", "mean batch", "queue ms", "input ms", "infer ms", "output ms"],
        [
            [run["model"], run["dataset"]["name"], step["model"], number(step["mean_batch_size"], 2)]
            + [number(step[part], 2) for part in ("queue_ms", "input_ms", "infer_ms", "output_ms")]
            for run in report["served"]
            for step in compared_load(run["closed"])["steps"]
        ],
        f"By Triton's own counters, with {COMPARED_AT} requests in flight: means over requests, each of which has the "
        "times of the batch that it was in.",
    )


def comparison(compared: Json) -> Table:
    """One model beside others."""
    random_weights = " (random weights)" if compared["random_weights"] else ""
    rows = [_compared_row(system) for system in compared["systems"]]
    rows += [[name, "", f"not run: {reason}", *[NONE] * 5] for name, reason in compared["not_run"].items()]
    return Table(
        f"{compared['model']}{random_weights} beside others, {compared['dataset']['name']}",
        ["system", "version", "RTFx", "ours is", "recordings a batch", "WER", "CER", "texts as NeMo's"],
        rows,
        f"{compared['dataset']['utterances']} recordings, {compared['dataset']['seconds']:.0f} s, "
        f"{compared['at_once']} at once, {compared['machine']['cores']} cores for everyone; all systems in turn in "
        f"{compared['rounds']} rounds of one run. RTFx is the median; 'ours is' says how many times as fast ours is, "
        "round by round: median (lowest to highest). Those that have all recordings at hand take them sorted by "
        "length; the server's clients do not. Baselines run the same weights, save those marked *, which have a "
        "model of their own.",
    )


def _compared_row(system: Json) -> list[str]:
    times = system["ours_is_times"]
    ratio = NONE
    if times and system["name"] != OURS:
        ratio = spread([times["lowest"], times["highest"]], 2, times["median"])
    same = NONE if system["texts_as_nemo"] is None else f"{system['texts_as_nemo']}/{system['texts']}"
    return [
        system["name"] + (" *" if system["own_model"] else ""),
        system["version"] or NONE,
        number(system["rtfx"], 1),
        ratio,
        number(system["mean_batch"], 1),
        rate(system["wer"], system["wer_interval"]),
        rate(system["cer"], system["cer_interval"]),
        same,
    ]


def accuracy(report: Json) -> Table:
    """Error rates of everything that was scored."""
    scored = [row for row in report["scores"] if row.get("wer") is not None]
    return Table(
        "Accuracy",
        ["system", "model", "data", "utterances", "WER", "sub", "ins", "del", "CER", "sclite"],
        [
            [row["system"], row["model"], row["dataset"], str(row["utterances"])]
            + [rate(row["wer"], row["wer_interval"])]
            + [str(row["words"][kind]) for kind in ("substitutions", "insertions", "deletions")]
            + [rate(row["cer"], row["cer_interval"]), AGREEMENT[sclite_agrees(row)]]
            for row in scored
        ],
        f"{NORMALIZATIONS[report['normalization']].statement} Corpus rates with 95 % intervals by a bootstrap over "
        "utterances. sclite: whether NIST's program counts as many errors; its weights may have more.",
    )


def speechloop(report: Json) -> Table:
    """SpeechLoop's engines, and what was measured here on its words."""
    compared = report["engines"]
    rows = [
        [engine["name"], engine["version"], engine["runs"], number(engine["mean_wer"], 4), "published"]
        for engine in compared["published"]
    ]
    rows += [
        [
            row["system"],
            "its own" if row["system"] in OWN_MODELS.values() else row["model"],
            "offline",
            number(row["mean_capped_wer"], 4),
            "here",
        ]
        for row in compared["measured"]
        if row.get("wer") is not None
    ]
    return Table(
        "SpeechLoop's 78 words",
        ["engine", "model", "runs", "mean WER", "measured"],
        rows,
        f"Published: {compared['source']}. {compared['measure']}. Measured here: the same mean, after the "
        f"normalisation of this report, on the data set prepared as {WORDS}=simple_test.csv. The coffee models know "
        "55 words, few of them among these: their rows show the pipeline, not what NeMo's published models do.",
    )


def rate(value: float | None, interval: Sequence[float] | None) -> str:
    """An error rate with its 95 % interval; both are fractions."""
    if value is None or interval is None:
        return NONE
    return f"{value:.2%} ({interval[0]:.2%} to {interval[1]:.2%})"


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / MB
