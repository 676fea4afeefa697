"""The columns of the tables of models."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmark.core.tables import MB
from benchmark.core.tables import NONE as DASH
from benchmark.studies.models_table.choice import FAMILY_TITLES
from benchmark.studies.models_table.text_table import Column
from export_scripts.checkpoints.listed_model import LEADERBOARD, SCORES, UNREAD

Json = dict[str, Any]

NOT_MEASURED = "not measured yet"
NONE = ""
GB = 1e9
NGC = "https://ngc.nvidia.com/catalog/models/nvidia:nemo:"
"""Beginning of a model's address, as in NeMo's list_available_models."""


def number(value: float) -> str:
    """The value with one decimal below 20, and none above."""
    return f"{value:.1f}" if value < 20 else f"{value:.0f}"


def middle(values: Json | None) -> str:
    """The median."""
    return number(values["median"]) if values else NONE


def middle_and_range(values: Json | None) -> str:
    """The median with the lowest and the highest of several rounds."""
    if not values:
        return NONE
    if values["rounds"] == 1:
        return number(values["median"])
    return f"{number(values['median'])} ({number(values['lowest'])} to {number(values['highest'])})"


def megabytes(size: float | None) -> str:
    """Megabytes of 10^6 bytes."""
    return NONE if size is None else number(size / MB)


def parameters(row: Json) -> str:
    """Millions of parameters: counted, or published if they were not counted."""
    millions = row["parameters"] / 1e6 if row["parameters"] else row["published"]["parameters_millions"]
    return DASH if millions is None else f"{millions:.1f}"


def onnx_megabytes(row: Json, precision: str) -> str:
    """Megabytes of all stages."""
    if not row["measured"]:
        return NONE
    size = row["onnx_bytes"][precision]
    return "refused" if size is None else megabytes(size)


def error_rates(row: Json) -> str:
    """Both published word error rates, with a mark for their sets."""
    rates = row["published"]["wer_percent"]
    text = " / ".join(map(str, rates.values()))
    return f"other {text}" if len(rates) == 1 else text + r" \*" * ("dev-other" in rates)


def leaderboard(row: Json, key: str, digits: int = 0) -> str:
    """A figure of the Open ASR Leaderboard, or of a model card for its test sets."""
    figures = row["published"]["leaderboard"]
    if not figures or figures[key] is None:
        return DASH
    note = "" if figures["source"] == LEADERBOARD else " (card)"
    return f"{figures[key]:.{digits}f}{note}"


def rates_source(row: Json) -> str:
    """Where the word error rates are published, without the folder that the section on sources names."""
    source = row["published"]["source"]
    return "leaderboard" if source == LEADERBOARD else source.removeprefix(f"{SCORES}/") or DASH


def text_style(row: Json) -> str:
    """What the text is like."""
    style = "punctuation, capitals" if row["punctuated"] else "lower case"
    return f"{style}; {row['languages']} languages" if row["languages"] > 1 else style


def test_set(row: Json) -> str:
    """The LibriSpeech sets of the published word error rates."""
    first, *others = row["published"]["wer_percent"]
    return "/".join([first, *(name.partition("-")[2] for name in others)])


def measured(row: Json, key: str) -> Any:
    """A measured value; None if nothing was measured."""
    return row["measured"][key] if row["measured"] else None


def milliseconds(row: Json) -> str:
    """The median latency of a single request."""
    value = measured(row, "single_request_p50_ms")
    return NONE if value is None else f"{value:.0f}"


def gigabytes(row: Json) -> str:
    """The peak memory of the server."""
    value = measured(row, "memory_peak_bytes")
    return NONE if value is None else f"{value / GB:.2f}"


def nemo_batch_size(row: Json) -> str:
    """Number of recordings in NeMo's batches."""
    value = measured(row, "nemo_batch_size")
    return NONE if value is None else str(value)


def equal_texts(row: Json) -> str:
    """Recordings with NeMo's text in every round."""
    texts = measured(row, "texts")
    return f"{texts['equal']}/{texts['compared']}" if texts else NONE


def licence(row: Json) -> str:
    """The licence, or a link to the page that names it."""
    if row["licence"] != UNREAD:
        return str(row["licence"])
    return f"see its [NGC page]({NGC}{row['name']})"


def weights(row: Json) -> str:
    """Whether the weights are published, and what was measured."""
    if row["measured"] is None:
        return NOT_MEASURED
    published = "published" if row["published"]["by"] else "not by NVIDIA"
    return f"{published}; {'random' if 'random' in row['status'] else 'the same'} here"


NAME = Column("model", lambda row: f"`{row['name']}`", is_number=False)
PARAMETERS = Column("params M", parameters)
SPEED = Column(
    "RTFx",
    lambda row: middle(measured(row, "served_rtfx")) if row["measured"] else NOT_MEASURED,
)
LATENCY = Column("p50 ms", milliseconds)
MEMORY = Column("memory GB", gigabytes)

CONCURRENT = 16


def peak(row: Json, requests: int, seconds: int, key: str = "server_bytes") -> str:
    """Peak memory in GB with requests of one length."""
    measured = row["peaks"].get(f"{requests} x {seconds}")
    return f"{measured[key] / GB:.2f}" if measured else DASH


def encoder_and_server(row: Json, seconds: int) -> str:
    """Peak memory of the encoder and of the server with one request; the encoder's is computed beyond the limit."""
    if f"1 x {seconds}" in row["peaks"]:
        return f"{peak(row, 1, seconds, 'encoder_bytes')} / {peak(row, 1, seconds)}"
    if row["encoder_bytes_per_minute"] is None or seconds <= row["max_audio_seconds"]:
        return DASH
    longest = single_lengths(row)[-1]
    known = row["peaks"][f"1 x {longest}"]["encoder_bytes"]
    return f"({(known + (seconds - longest) / 60 * row['encoder_bytes_per_minute']) / GB:.2f})"


def encoder_per_minute(row: Json) -> str:
    """Megabytes that a minute of audio adds to the encoder's memory."""
    value = row["encoder_bytes_per_minute"]
    return DASH if value is None else f"{value / MB:.0f}"


def computed(row: Json) -> str:
    """Memory in GB that the export computes for concurrent requests of the longest audio."""
    value = row.get("computed_bytes")
    return DASH if value is None else f"{value / GB:.2f}"


def single_lengths(row: Json) -> list[int]:
    """Measured lengths of single requests, in seconds."""
    return sorted(int(seconds) for requests, seconds in (case.split(" x ") for case in row["peaks"]) if requests == "1")


LONG_AUDIO = (
    NAME,
    Column("longest audio s", lambda row: str(row["max_audio_seconds"])),
    Column("encoder MB per minute", encoder_per_minute),
    *(Column(f"1 x {seconds // 60} min", partial(encoder_and_server, seconds=seconds)) for seconds in (60, 300, 1200)),
    Column(f"{CONCURRENT} x 1 min", lambda row: peak(row, CONCURRENT, 60)),
    Column(f"{CONCURRENT} x longest", lambda row: peak(row, CONCURRENT, row["max_audio_seconds"])),
    Column("computed", computed),
    Column("after it", lambda row: peak(row, CONCURRENT, row["max_audio_seconds"], "after_bytes")),
)

SHORT = (
    NAME,
    PARAMETERS,
    Column(
        "ONNX MB fp32 / int8",
        lambda row: f"{onnx_megabytes(row, 'fp32')} / {onnx_megabytes(row, 'int8')}" if row["measured"] else NONE,
    ),
    Column("WER %", error_rates),
    SPEED,
    LATENCY,
    MEMORY,
)
QUALITY = (
    NAME,
    Column("WER %", lambda row: " / ".join(map(str, row["published"]["wer_percent"].values()))),
    Column("LibriSpeech set", test_set, is_number=False),
    Column("source", lambda row: row["published"]["source"].removeprefix(f"{SCORES}/"), is_number=False),
    Column("licence", licence, is_number=False),
)
LATER_MODELS = (
    NAME,
    Column("family", lambda row: FAMILY_TITLES.get(row["family"], row["family"]), is_number=False),
    Column("decoder", lambda row: row["decoder"], is_number=False),
    PARAMETERS,
    Column("WER %", lambda row: error_rates(row) or DASH),
    Column("source", rates_source, is_number=False),
    Column("leaderboard %", partial(leaderboard, key="word_error_rate", digits=2)),
    Column("its RTFx", partial(leaderboard, key="rtfx")),
    Column("text", text_style, is_number=False),
    Column("licence", licence, is_number=False),
    SPEED,
    MEMORY,
)
FILES = (
    NAME,
    Column("family", lambda row: FAMILY_TITLES.get(row["family"], row["family"]), is_number=False),
    Column("NeMo class", lambda row: row["nemo_class"], is_number=False),
    PARAMETERS,
    Column(".nemo MB", lambda row: megabytes(row["checkpoint_bytes"]) if row["measured"] else NONE),
    Column("ONNX fp32", lambda row: onnx_megabytes(row, "fp32")),
    Column("int8", lambda row: onnx_megabytes(row, "int8")),
    Column("weights", weights, is_number=False),
)
MEASURED = (
    NAME,
    Column(
        "RTFx",
        lambda row: middle_and_range(measured(row, "served_rtfx")) if row["measured"] else NOT_MEASURED,
    ),
    Column("int8", lambda row: middle_and_range(measured(row, "int8_rtfx"))),
    Column("NeMo", lambda row: middle(measured(row, "nemo_rtfx"))),
    Column("batch", nemo_batch_size),
    Column("x NeMo", lambda row: middle_and_range(measured(row, "times_nemo"))),
    LATENCY,
    Column("GB", gigabytes),
    Column("texts", equal_texts),
)
