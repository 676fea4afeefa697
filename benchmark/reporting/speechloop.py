"""SpeechLoop's published table of engines, and our measurements with the same words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmark.core.constants import OWN_MODELS
from benchmark.core.tables import NONE, Table

SOURCE = (
    "Rob Smith, 'Adding NeMo ASRs to SpeechLoop', 21 June 2022 (robmsmt.github.io); versions of Vosk, Sphinx and Coqui "
    "as in his post of 4 September 2021"
)
MEASURE = (
    "SpeechLoop's mean WER: the mean of the utterances' word error rates, each capped at 1, after SpeechLoop's "
    "corrections of spelling and numbers"
)
WORDS = "words"
"""Name of the prepared data set."""
UTTERANCES = 78
TITLE = "SpeechLoop's engines on its 78 words"


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        name: Name of the engine.
        version: Version or model, as published.
        runs: "offline" or "API".
        mean_wer: Mean word error rate as a fraction.
    """

    name: str
    version: str
    runs: str
    mean_wer: float


ENGINES = (
    Engine("Vosk", "en-small-us-0.15", "offline", 0.2308),
    Engine("Sphinx", "pocketsphinx 0.1.15", "offline", 0.4936),
    Engine("Coqui", "0.9.3", "offline", 0.5513),
    Engine("NeMo", "stt_en_contextnet_1024", "offline", 0.0897),
    Engine("Google", "cloud, 2022", "API", 0.1154),
)


def is_words(dataset: str, utterances: int) -> bool:
    """Whether a data set is SpeechLoop's."""
    return dataset == WORDS and utterances <= UTTERANCES


def engines(report: dict[str, Any]) -> Table:
    """SpeechLoop's engines, then our measurements."""
    compared = report["engines"]
    rows = [
        [engine["name"], engine["version"], engine["runs"], f"{100 * engine['mean_wer']:.2f}", "published"]
        for engine in compared["published"]
    ]
    for row in compared["measured"]:
        if row.get("mean_capped_wer") is not None:
            model = NONE if row["system"] in OWN_MODELS.values() else row["model"]
            rows.append([row["system"], model, "offline", f"{100 * row['mean_capped_wer']:.2f}", "measured here"])
    return Table(
        "Engines",
        ["engine", "model", "runs", "mean WER, %", "source"],
        rows,
        f"Published rows: {compared['source']}. {compared['measure']}. Rows measured here: the same mean, after this "
        "project's `basic` normalization.",
    )
