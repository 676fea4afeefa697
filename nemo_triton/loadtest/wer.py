"""Word and character error rates, and what is done to both texts before they are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache

import jiwer
import numpy as np

_RESAMPLES = 1000
_INTERVAL_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class ErrorCounts:
    """How a hypothesis differs from its reference, in words or in characters."""

    hits: int = 0
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0

    @property
    def total(self) -> int:
        """Words or characters in the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Words or characters that are wrong, missing or too many."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float | None:
        """Errors as a fraction of the reference, above 1 where much is inserted; None without a reference."""
        return self.errors / self.total if self.total else None

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Pair:
    """One reference and one hypothesis, both normalized, and how they differ."""

    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts


@dataclass(frozen=True)
class Rate:
    """An error rate over all utterances, as a fraction, with its 95 % confidence interval; None without a reference."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Score:
    """All pairs, and the error rates over their words and characters: corpus rates, not means over utterances."""

    pairs: tuple[Pair, ...]
    words: ErrorCounts
    characters: ErrorCounts
    wer: Rate
    cer: Rate


@dataclass(frozen=True)
class Normalization:
    """A text change made to references and hypotheses alike, and the sentence that tells a reader of the WER."""

    apply: Callable[[str], str]
    statement: str


def _basic(text: str) -> str:
    # NFC first: a letter written with a combining accent would otherwise lose the accent as a symbol.
    composed = unicodedata.normalize("NFC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return " ".join(re.sub(r"[^\w\s']|_", " ", composed).split())


@cache
def _whisper_normalizer() -> Callable[[str], str]:
    # Imported on use: its tables take longer to load than the rest of this package.
    from whisper_normalizer.english import EnglishTextNormalizer

    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


NORMALIZATIONS: Mapping[str, Normalization] = {
    "none": Normalization(lambda text: text, "Texts are compared as they are, capitals and punctuation included."),
    "basic": Normalization(
        _basic,
        "Texts are lower-cased, punctuation and symbols other than apostrophes become spaces, "
        "and runs of spaces become one.",
    ),
    "whisper": Normalization(
        lambda text: _whisper_normalizer()(text),
        "Texts pass Whisper's English normalizer, which also unifies numbers, contractions and British spellings "
        "and drops fillers.",
    ),
}


def score(references: Sequence[str], hypotheses: Sequence[str], normalization: str = "none") -> Score:
    """Count errors of `hypotheses` against `references`, pair by pair, after the named normalization.

    A reference that is (or becomes) empty counts each word of its hypothesis as an insertion.
    Raises ValueError for sequences of unequal length, KeyError for an unknown normalization.
    """
    normalize = NORMALIZATIONS[normalization].apply
    pairs = tuple(
        _pair(normalize(reference), normalize(hypothesis))
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    )
    return Score(
        pairs=pairs,
        words=sum((pair.words for pair in pairs), ErrorCounts()),
        characters=sum((pair.characters for pair in pairs), ErrorCounts()),
        wer=_rate([pair.words for pair in pairs]),
        cer=_rate([pair.characters for pair in pairs]),
    )


def alignment(pair: Pair) -> str:
    """The words of the pair one under the other, with what differs marked below: S, D or I."""
    if not pair.reference.split():
        return f"REF:\nHYP: {pair.hypothesis}"
    drawn = jiwer.visualize_alignment(
        jiwer.process_words(pair.reference, pair.hypothesis), show_measures=False, skip_correct=False
    )
    # What stands before only numbers the sentence.
    return "\n".join(line.rstrip() for line in drawn[drawn.index("REF:") :].strip("\n").split("\n"))


def _pair(reference: str, hypothesis: str) -> Pair:
    if not reference.split():
        # jiwer refuses a reference without words.
        inserted = hypothesis.split()
        words, characters = ErrorCounts(insertions=len(inserted)), ErrorCounts(insertions=len(" ".join(inserted)))
    else:
        words = _counts(jiwer.process_words(reference, hypothesis))
        characters = _counts(jiwer.process_characters(reference, hypothesis))
    return Pair(reference, hypothesis, words, characters)


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    return ErrorCounts(output.hits, output.substitutions, output.insertions, output.deletions)


def _rate(counts: Sequence[ErrorCounts]) -> Rate:
    """With the interval of a bootstrap over utterances (Bisani and Ney, ICASSP 2004)."""
    errors = np.array([count.errors for count in counts])
    totals = np.array([count.total for count in counts])
    if not totals.sum():
        return Rate(None, None)
    generator = np.random.default_rng(0)
    rates = []
    for _ in range(_RESAMPLES):
        drawn = generator.integers(len(counts), size=len(counts))
        if totals[drawn].sum():
            rates.append(errors[drawn].sum() / totals[drawn].sum())
    low, high = np.percentile(rates, _INTERVAL_PERCENTILES)
    return Rate(float(errors.sum() / totals.sum()), (float(low), float(high)))
