"""The command that scores what was measured: `python -m benchmark.score RESULTS`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from benchmark.compare import OURS
from benchmark.core.results_folder import ResultsError, read_json, write_json
from benchmark.core.sclite import ScliteError, count_words, find_sclite
from nemo_triton.loadtest.wer import NORMALIZATIONS, ErrorCounts, Score, score
from nemo_triton.terminal import options as cli

SCORES = "scores.json"


@dataclass(frozen=True)
class Texts:
    """What one system made of one data set. `texts` and `references`: by audio file."""

    system: str
    model: str
    dataset: str
    random_weights: bool
    references: Mapping[str, str]
    texts: Mapping[str, str]


@click.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--normalization", type=click.Choice(list(NORMALIZATIONS)), default="basic", show_default=True)
def run(results: Path, normalization: str) -> int:
    """Write RESULTS/scores.json: word and character error rates of every system on every data set.

    Where NIST's sclite is installed, it counts the same texts, which lie as .trn files in RESULTS/trn. Models with
    random weights are not scored.
    """
    rows = [_scored(texts, normalization, results / "trn") for texts in read_texts(results)]
    if not rows:
        raise ResultsError(f"{results}: holds nothing to score; measure with benchmark.run or benchmark.compare")
    write_json(results / SCORES, {"normalization": normalization, "scores": rows})
    cli.console().print(_table(rows))
    return cli.EXIT_OK


def read_texts(results: Path) -> Iterator[Texts]:
    """All texts in a folder of results: those of closed loops, the first answer to each recording, and of peers."""
    for file in sorted(results.glob("*/*/closed.json")):
        measured = read_json(file)
        rows = _answers(file.with_name(measured["rows"]))
        yield Texts(
            OURS,
            measured["model"],
            measured["dataset_name"],
            measured["random_weights"],
            {row["audio"]: row["reference"] for row in rows},
            {row["audio"]: row["text"] for row in reversed(rows)},
        )
    for file in sorted(results.glob("*/*/compared.json")):
        compared = read_json(file)
        for system in compared["systems"]:
            if system["name"] != OURS or not file.with_name("closed.json").exists():
                name, dataset = compared["model"], compared["dataset"]["name"]
                random_weights = compared["random_weights"] and not system["own_model"]
                yield Texts(system["name"], name, dataset, random_weights, compared["references"], system["texts"])


def _answers(file: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    return [row for row in rows if row.get("error", "") is None]


def _scored(texts: Texts, normalization: str, trn: Path) -> dict[str, Any]:
    audio = sorted(texts.texts)
    row: dict[str, Any] = {
        "system": texts.system,
        "model": texts.model,
        "dataset": texts.dataset,
        "random_weights": texts.random_weights,
        "utterances": len(audio),
        "sclite": None,
    }
    if texts.random_weights:
        return row
    found = score([texts.references[one] for one in audio], [texts.texts[one] for one in audio], normalization)
    sclite = find_sclite()
    if sclite:
        folder = trn / texts.dataset / texts.model / "".join(c if c.isalnum() else "_" for c in texts.system)
        try:
            row["sclite"] = asdict(count_words(sclite, found.pairs, folder))
        except ScliteError as error:
            # A second opinion that is missing costs nobody the first.
            cli.print_error(error)
    return row | {
        "wer": found.wer.value,
        "wer_interval": found.wer.interval,
        "cer": found.cer.value,
        "cer_interval": found.cer.interval,
        "mean_capped_wer": mean_capped_wer(found),
        "words": asdict(found.words),
    }


def sclite_agrees(row: Mapping[str, Any]) -> bool | None:
    """Whether sclite counts as many errors in as many words; None where it was not asked.

    It need not: sclite looks for the alignment of the least weight, where a substitution weighs 4 and an insertion or
    deletion 3, and that may have more errors than the fewest possible, which jiwer counts.
    """
    if row["sclite"] is None:
        return None
    ours, theirs = ErrorCounts(**row["words"]), ErrorCounts(**row["sclite"])
    return (ours.errors, ours.total) == (theirs.errors, theirs.total)


def mean_capped_wer(found: Score) -> float | None:
    """SpeechLoop's figure: the mean over utterances of each one's word error rate, none above 1."""
    rates = [min(pair.words.rate, 1.0) for pair in found.pairs if pair.words.rate is not None]
    return sum(rates) / len(rates) if rates else None


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("system", "model", "data", "WER", "95 %", "CER", "sclite agrees")
    for row in rows:
        if row.get("wer") is None:
            cells = ["random weights" if row["random_weights"] else "-", "", ""]
        else:
            low, high = row["wer_interval"]
            cells = [f"{row['wer']:.2%}", f"{low:.2%} to {high:.2%}", f"{row['cer']:.2%}"]
        agrees = {True: "yes", False: "more", None: "-"}[sclite_agrees(row)]
        table.add_row(row["system"], row["model"], row["dataset"], *cells, agrees)
    return table


if __name__ == "__main__":
    cli.run(run)
