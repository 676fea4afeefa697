"""Error rates of all texts in a folder of results."""

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
    """What one system made of one data set. `texts` and `references`: by audio file."""

    system: str
    model: str
    dataset: str
    random_weights: bool
    references: Mapping[str, str]
    texts: Mapping[str, str]


def read_texts(results: Path) -> Iterator[Texts]:
    """All texts of a folder of results: of closed loops (the first answer to each recording) and of comparisons."""
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
    """The row of scores.json for these texts; without error rates where weights are random.

    Args:
        texts: of one system
        normalization: one of nemo_triton.loadtest.wer.NORMALIZATIONS
        trn: folder for sclite's transcripts
        report_problem: gets the error where sclite can't count; the row then has no counts of sclite's
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
    """Whether sclite counts as many errors in as many words; None where it did not count.

    It need not: sclite looks for the alignment of the least weight, where a substitution weighs 4 and an insertion or
    deletion 3, and that may have more errors than the fewest possible, which jiwer counts.
    """
    if row["sclite"] is None:
        return None
    ours, theirs = ErrorCounts(**row["words"]), ErrorCounts(**row["sclite"])
    return (ours.errors, ours.total) == (theirs.errors, theirs.total)


def mean_capped_wer(scored: Score) -> float | None:
    """SpeechLoop's figure: the mean over utterances of each one's word error rate, none above 1."""
    rates = [min(pair.words.rate, 1.0) for pair in scored.pairs if pair.words.rate is not None]
    return sum(rates) / len(rates) if rates else None
