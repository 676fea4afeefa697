"""docs/models.md and the short table of README.md, written from the rows only."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from benchmark.studies.models_table import columns
from benchmark.studies.models_table.choice import balanced, candidates, other_rate, pareto_front
from benchmark.studies.models_table.rows import distinct
from benchmark.studies.models_table.text_table import Column, table_lines
from export_scripts.checkpoints.listed_model import LEADERBOARD, NEMO_CLASSES, SCORES
from export_scripts.checkpoints.refused_models import REFUSED

BEGIN, END = "<!-- models-table:begin -->", "<!-- models-table:end -->"
ALT = "Published word error rate against measured speed, a circle per model"
SCORES_URL = "https://github.com/NVIDIA-NeMo/NeMo/tree/main/docs/source/asr/data/scores/en"
SHARED = "Models of one architecture share one measurement, because their files here are the same:"
LINE = 118
"""Characters of a line of prose."""

Json = dict[str, Any]


def page(table: Json) -> str:
    """The page about all models."""
    rows = best_first(table["models"])
    lines = [
        "# Which model should I take?",
        "",
        "```sh",
        table["command"],
        "```",
        "",
        "The command measures every model and writes this page, its charts, [models.json](models.json) and the short "
        "table in README. It resumes after an interruption.",
        "",
        "## How to choose",
        "",
        *_picture(),
        "",
        "Down and to the right is better. The dashed line connects the models that no other beats in both word error "
        "rate and speed (the Pareto front). A circle's area is the number of parameters. "
        "CTC and RNNT are the two Conformers; \N{GREEK SMALL LETTER GAMMA} is `_gamma_0_25` in the name. "
        "An asterisk marks a word error rate on dev-other; the others are on test-other.",
        "",
        *_front(table),
        "",
        "- **Speech other than audiobooks**: leave out `_ls` and `_mls`, which were trained on audiobooks only.",
        "- **A CPU**: try int8, then measure the word error rate on your own recordings.",
        "- **Word or token times, punctuation**: every model returns a time per token; none of the 22 writes "
        "punctuation.",
        "",
        "## Quality and licence",
        "",
        "Best word error rate first.",
        "",
        *table_lines(columns.QUALITY, rows),
        "",
        "## Files",
        "",
        *table_lines(columns.FILES, by_family(table["models"])),
        "",
        "## Speed and memory",
        "",
        "Fastest first.",
        "",
        *table_lines(columns.MEASURED, fastest_first(table["models"])),
        "",
        conditions(table),
        "",
        *_column_notes(table),
        "",
        *_long_audio(table),
        *_sources(),
        "",
        *_others(table),
    ]
    return wrapped(lines) + "\n"


def wrapped(lines: Iterable[str]) -> str:
    """The text of a page, with long lines of prose broken."""
    return "\n".join(line if line.startswith(("|", "<", "  ")) else fill(line) for line in lines)


def fill(line: str) -> str:
    """One paragraph or list entry, broken into lines."""
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, LINE, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def short_table(table: Json) -> str:
    """README's table, with a note about the measurements."""
    note = (
        "WER: published by NVIDIA on LibriSpeech test-clean / test-other (\\*: dev-clean / dev-other). "
        "RTFx: seconds of audio per second, 16 concurrent requests of 10 s. p50: latency of a single 10 s request. "
        f"Memory: peak of the server with those 16 requests. {conditions(table)}"
    )
    return wrapped([*table_lines(columns.SHORT, best_first(table["models"])), "", note])


def replace_table(readme: str, table: str) -> str | None:
    """The text of README with another table between its markers; None if it has none."""
    before, begin, following = readme.partition(BEGIN)
    _, end, after = following.partition(END)
    return f"{before}{begin}\n{table}\n{end}{after}" if begin and end else None


def best_first(rows: Iterable[Json]) -> list[Json]:
    """Rows by published word error rate."""
    return sorted(rows, key=lambda row: (other_rate(row) is None, other_rate(row) or 0))


def by_family(rows: Iterable[Json]) -> list[Json]:
    """Rows by family, the smallest model first."""
    return sorted(rows, key=lambda row: (row["family"], row["published"]["parameters_millions"]))


def fastest_first(rows: Iterable[Json]) -> list[Json]:
    """Rows by speed; those without at the end."""
    return sorted(rows, key=lambda row: -row["measured"]["served_rtfx"]["median"] if row["measured"] else 0)


def conditions(table: Json) -> str:
    """A sentence about the measured weights and the machine."""
    machines = "; ".join(machine_text(machine) for machine in table["machines"])
    return (
        "Speed and memory are of the architecture at full size with random weights, in fp32, "
        f"on {machines or 'no machine yet'}{_date(table)}."
    )


def machine_text(machine: Json) -> str:
    """The machine in a few words."""
    memory = machine["memory_bytes"] / 2**30
    return f"{machine['cores']} cores of {machine['processor']} with {memory:.0f} GiB"


def processor_text(table: Json) -> str:
    """The processors in a few words, for a chart's axis."""
    return ", ".join(
        dict.fromkeys(f"{machine['cores']} cores of {machine['processor']}" for machine in table["machines"])
    )


def _date(table: Json) -> str:
    dates = list(dict.fromkeys(str(table[key])[:10] for key in ("measured_from", "measured_to") if table[key]))
    return f" ({' to '.join(dates)})" if dates else ""


def _picture() -> list[str]:
    return [
        "<picture>",
        '  <source media="(prefers-color-scheme: dark)" srcset="models_dark.svg">',
        f'  <img alt="{ALT}" src="models_light.svg">',
        "</picture>",
    ]


def _front(table: Json) -> list[str]:
    """The models of the front, the most accurate first."""
    front = pareto_front(candidates(table["models"]))
    by_name = {row["name"]: row for row in table["models"]}
    if not front:
        return [f"No model is measured; see `{table['command']}`."]
    chosen = {"Most accurate": front[-1], "Balanced": balanced(front), "Fastest": front[0]}
    return [
        *(
            f"- **{title}**: `{model.name}`, WER {model.error} %, RTFx {model.speed:.0f}."
            for title, model in chosen.items()
        ),
        "",
        "All models on the Pareto front, most accurate first:",
        "",
        *table_lines(columns.SHORT, [by_name[model.name] for model in reversed(front)]),
    ]


def _column_notes(table: Json) -> list[str]:
    load = table["load"]
    seconds, requests = load["seconds_per_recording"], load["concurrency"]
    speech = " and ".join(f"the set `{speech['name']}`" for speech in table["speech"])
    notes = (
        (
            "RTFx",
            f"seconds of audio per second, served; {requests} concurrent requests of {seconds:g} s, "
            f"closed loop; {_rounds(table, 'served_rtfx')}",
        ),
        ("int8", f"the same of the int8 export; {_rounds(table, 'int8_rtfx')}"),
        ("NeMo", "RTFx of NeMo's `transcribe()` of the same recordings, in rounds that alternate with the server's"),
        ("batch", f"recordings per batch that NeMo gets: 1 or {requests}, whichever was faster"),
        ("x NeMo", "how many times as fast the server is, taken round by round"),
        ("p50 ms", f"median latency of a single {seconds:g} s request with nothing else in flight"),
        (
            "GB",
            f"peak memory of the server with {requests} concurrent requests, in a pass without timing: "
            + "; ".join(table["memory_measure"]),
        ),
        ("texts", "recordings whose served text is NeMo's in every round"),
        (".nemo MB, ONNX", "megabytes of 10^6 bytes; ONNX: all stages, those that models share included"),
        ("weights", "where they are published, and which were measured"),
    )
    shared = [row for row in table["models"] if row["measured_as"] not in (None, row["name"])]
    sharing = [f"- `{row['name']}` as `{row['measured_as']}`" for row in shared]
    return [
        "## Columns",
        "",
        "Ranges are the lowest and the highest of the rounds, around the median.",
        "",
        *(f"- **{name}**: {meaning}." for name, meaning in notes),
        "",
        f"The recordings are {requests} different ones of {seconds:g} s, cut from {speech}. Random weights write "
        "random words: a transducer's speed depends a little on how many.",
        *(["", SHARED, ""] * bool(sharing)),
        *sharing,
        "",
        "Versions: " + "; ".join(_versions(versions) for versions in table["versions"]) + ".",
    ]


def _long_audio(table: Json) -> list[str]:
    """The section about the memory of long audio; empty if nothing is measured."""
    rows = table["long_audio"]
    if not rows:
        return []
    failed = [f"- `{row['name']}`, {case}: {error}" for row in rows for case, error in row["failed"].items()]
    return [
        "## Memory of long audio",
        "",
        "```sh",
        "make models-memory",
        "```",
        "",
        "Peak memory in GB, by length of the audio. One request: of the encoder / of the server. 16 concurrent "
        'requests: of the server. "Computed" is what the export computes for 16 x longest. "After it" is the server\'s '
        "memory when the last of them is answered.",
        "",
        *table_lines(columns.LONG_AUDIO, rows),
        "",
        f"The longest audio is what lets {columns.CONCURRENT} concurrent requests fit 8 GiB, in whole minutes and at "
        "most 20; [serve.md](serve.md#memory) has the rule. It is set at export (`--max-audio-seconds`). In brackets: "
        "computed for the encoder, since the model refuses audio of that length. A dash: not measured yet. Measured as "
        + "; or ".join(distinct(row["measure"] for row in rows if row.get("measure")))
        + ".",
        *(["", *failed] if failed else []),
        "",
    ]


def _rounds(table: Json, key: str) -> str:
    """How many rounds the measurements have."""
    counts = {row["measured"][key]["rounds"] for row in table["models"] if row["measured"] and row["measured"][key]}
    numbers = " or ".join(map(str, sorted(counts)))
    return f"{numbers or 'no'} round{'' if counts == {1} else 's'}"


def _versions(versions: Json) -> str:
    shown = ("tritonserver", "onnxruntime", "nemo", "python", "tritonclient")
    names = {name: versions[name] for name in shown if name in versions}
    return ", ".join(f"{name} {version}" if name != "nemo" else str(version) for name, version in names.items())


def _sources() -> list[str]:
    """The section about the sources of published figures and licences."""
    return [
        "## Sources",
        "",
        f"Word error rates are NVIDIA's, greedy decoding without a language model, from the files in "
        f"[{SCORES}]({SCORES_URL}). Those of later models are from the Open ASR Leaderboard ({LEADERBOARD}), from "
        "the same folder of NeMo, or from the model's card at Hugging Face, as its row says. They were not measured "
        "here. Licences are those that NVIDIA's Hugging Face pages name; its NGC pages were not read.",
    ]


def _others(table: Json) -> list[str]:
    """The section about later models and those that are refused."""
    classes = ", ".join(f"{kind}: `{nemo_class}`" for kind, nemo_class in NEMO_CLASSES.items() if kind != "characters")
    refused: Sequence[Column] = (
        Column("not exported", lambda row: str(row["kind"]), is_number=False),
        Column("for example", lambda row: f"`{row['example']}`", is_number=False),
        Column("instead", lambda row: str(row["instead"]), is_number=False),
    )
    kinds = [{"kind": kind.kind, "example": kind.example, "instead": kind.instead} for kind in REFUSED]
    return [
        "## Later models",
        "",
        "The second list of `export.py --list`: FastConformer, Parakeet, and variants of the 22. WER: LibriSpeech "
        "test-clean / test-other. Leaderboard: mean word error rate of the eight sets of the Open ASR Leaderboard of "
        "March 2026, and the RTFx of NeMo on its GPU (batches of 128). Our RTFx and memory are still to be "
        "measured as for the 22: until then eleven architectures have rougher figures in [full_size_later.md]"
        "(full_size_later.md), and two are compared with other packages in [report_later](report_later/report.md). A "
        "dash: no figure was found.",
        "",
        *table_lines(columns.LATER_MODELS, table["others"]),
        "",
        f"NeMo's classes: {classes}.",
        "",
        "`export.py` refuses these by name, before it downloads anything:",
        "",
        *table_lines(refused, kinds),
        "",
        "A row in the catalogue (`export_scripts/checkpoints/catalogue.py`) adds a model to this page.",
    ]
