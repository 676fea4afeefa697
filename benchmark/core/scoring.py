"""Error rates of all transcripts in a results folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.core.constants import OURS
from benchmark.core.results_folder import read_json
from benchmark.core.run_bench import first_texts, read_answers
from benchmark.core.sclite import ScliteError, count_words, find_sclite
from nemo_triton.loadtest.wer import ErrorCounts, Score, score


@dataclass(frozen=True)
class Texts:
    """Transcripts of one data set by one system.

    Attributes:
        system: Name of the system in tables.
        model: Name of the compared recognizer.
        dataset: Name of the data set.
        random_weights: Whether the system's model was never trained.
        references: Reference transcripts, by audio file.
        texts: Transcripts, by audio file.
    """

    system: str
    model: str
    dataset: str
    random_weights: bool
    references: Mapping[str, str]
    texts: Mapping[str, str]


def read_texts(results: Path) -> Iterator[Texts]:
    """Read all transcripts of a results folder: first responses of closed loops, and comparisons."""
    for file in sorted(results.glob("*/*/closed.json")):
        measured = read_json(file)
        answers = read_answers(file.with_name(measured["rows"]))
        yield Texts(
            system=OURS,
            model=measured["model"],
            dataset=measured["dataset_name"],
            random_weights=measured["random_weights"],
            references={answer["audio"]: answer["reference"] for answer in answers},
            texts=first_texts(answers),
        )
    for file in sorted(results.glob("*/*/compared.json")):
        compared = read_json(file)
        for system in compared["systems"]:
            if system["name"] != OURS or not file.with_name("closed.json").exists():
                yield Texts(
                    system=system["name"],
                    model=compared["model"],
                    dataset=compared["dataset"]["name"],
                    random_weights=compared["random_weights"] and not system["own_model"],
                    references=compared["references"],
                    texts=system["texts"],
                )


def score_texts(
    texts: Texts, normalization: str, trn: Path, report_problem: Callable[[ScliteError], None]
) -> dict[str, Any]:
    """The row of scores.json for these transcripts, without error rates if the weights are random.

    Args:
        texts: Transcripts of one system.
        normalization: Key of nemo_triton.loadtest.wer.NORMALIZATIONS.
        trn: Folder for sclite's files.
        report_problem: Function that is called if sclite fails; the row then has no counts of sclite.
    """
    files = sorted(texts.texts)
    row: dict[str, Any] = {
        "system": texts.system,
        "model": texts.model,
        "dataset": texts.dataset,
        "random_weights": texts.random_weights,
        "utterances": len(files),
        "sclite": None,
    }
    if texts.random_weights:
        return row
    scored = score([texts.references[file] for file in files], [texts.texts[file] for file in files], normalization)
    sclite = find_sclite()
    if sclite:
        folder = trn / texts.dataset / texts.model / "".join(c if c.isalnum() else "_" for c in texts.system)
        try:
            row["sclite"] = asdict(count_words(sclite, scored.pairs, folder))
        except ScliteError as error:
            report_problem(error)
    return row | {
        "wer": scored.wer.value,
        "wer_interval": scored.wer.interval,
        "cer": scored.cer.value,
        "cer_interval": scored.cer.interval,
        "mean_capped_wer": mean_capped_wer(scored),
        "words": asdict(scored.words),
    }


def sclite_agrees(row: Mapping[str, Any]) -> bool | None:
    """Whether sclite counts the same errors and words as jiwer; None if sclite did not count.

    They may differ. jiwer counts the fewest errors possible. sclite minimises a weight: 4 per substitution, 3 per
    insertion or deletion, which may need more errors.
    """
    if row["sclite"] is None:
        return None
    ours, theirs = ErrorCounts(**row["words"]), ErrorCounts(**row["sclite"])
    return (ours.errors, ours.total) == (theirs.errors, theirs.total)


def mean_capped_wer(scored: Score) -> float | None:
    """SpeechLoop's measure: the mean of the utterances' word error rates, each capped at 1."""
    rates = [min(pair.words.rate, 1.0) for pair in scored.pairs if pair.words.rate is not None]
    return sum(rates) / len(rates) if rates else None
