"""Word and character error rates, and the text normalization before texts are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache

import jiwer
import numpy as np

UNKNOWN_PIECE = "\N{DOUBLE QUESTION MARK}"
"""The text of a SentencePiece tokenizer's piece <unk>."""

_RESAMPLES = 1000
_INTERVAL_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class ErrorCounts:
    """Differences between a hypothesis and its reference, in words or in characters."""

    hits: int = 0
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0

    @property
    def total(self) -> int:
        """Number of words or characters in the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, insertions and deletions together."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float | None:
        """Errors as a fraction of the reference (can exceed 1); None if the reference is empty."""
        return self.errors / self.total if self.total else None

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Pair:
    """One reference and one hypothesis, both normalized.

    Attributes:
        reference: The words that were spoken.
        hypothesis: The transcript.
        words: Differences in words.
        characters: Differences in characters.
    """

    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts


@dataclass(frozen=True)
class Rate:
    """An error rate over all utterances, as a fraction, with its 95 % confidence interval.

    Both are None if no reference has a word.
    """

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Score:
    """All pairs and their error rates: over all words and characters, not means over utterances.

    Attributes:
        pairs: One pair per utterance.
        words: Errors in words, summed over pairs.
        characters: Errors in characters, summed over pairs.
        wer: Word error rate.
        cer: Character error rate.
    """

    pairs: tuple[Pair, ...]
    words: ErrorCounts
    characters: ErrorCounts
    wer: Rate
    cer: Rate


@dataclass(frozen=True)
class Normalization:
    """A text normalization of references and hypotheses, and the sentence that describes it under results."""

    apply: Callable[[str], str]
    statement: str


def _basic(text: str) -> str:
    # NFC first: otherwise a combining accent counts as a symbol and is removed from its letter.
    composed = unicodedata.normalize("NFC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    # A recognizer writes the unknown piece where it heard a word: it is a wrong word, as in NeMo's word_error_rate.
    return " ".join(re.sub(rf"[^\w\s'{UNKNOWN_PIECE}]|_", " ", composed).split())


@cache
def _whisper_normalizer() -> Callable[[str], str]:
    # Imported on first use, because its tables load slowly.
    from whisper_normalizer.english import EnglishTextNormalizer

    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


NORMALIZATIONS: Mapping[str, Normalization] = {
    "none": Normalization(lambda text: text, "Texts are compared unchanged, capitals and punctuation included."),
    "basic": Normalization(
        _basic,
        "Texts are lower-cased, punctuation and symbols except apostrophes and the unknown piece "
        f"({UNKNOWN_PIECE}) become spaces, and repeated spaces become one.",
    ),
    "whisper": Normalization(
        lambda text: _whisper_normalizer()(text),
        "Texts pass Whisper's English normalizer, which also unifies numbers, contractions and British spellings "
        "and drops fillers.",
    ),
}


def score(references: Sequence[str], hypotheses: Sequence[str], normalization: str = "none") -> Score:
    """Count the errors of each hypothesis against its reference.

    If a reference is empty (after normalization), each word of its hypothesis counts as an insertion, as in NeMo's
    word_error_rate. If all are empty there is no rate, and the counts tell the insertions.

    Args:
        references: The words that were spoken.
        hypotheses: The transcripts, in the same order.
        normalization: A key of NORMALIZATIONS, applied to both.

    Returns:
        The counts of each pair and the rates over all of them.

    Raises:
        ValueError: `references` and `hypotheses` have different lengths.
        KeyError: The normalization is unknown.
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
    """Align reference and hypothesis in two lines, and mark each error below: S, D or I."""
    if not pair.reference.split():
        return f"REF:\nHYP: {pair.hypothesis}"
    text = jiwer.visualize_alignment(
        jiwer.process_words(pair.reference, pair.hypothesis), show_measures=False, skip_correct=False
    )
    # The lines before REF only number the sentence.
    return "\n".join(line.rstrip() for line in text[text.index("REF:") :].strip("\n").split("\n"))


def _pair(reference: str, hypothesis: str) -> Pair:
    if not reference.split():
        # jiwer rejects a reference without words.
        inserted = hypothesis.split()
        words, characters = ErrorCounts(insertions=len(inserted)), ErrorCounts(insertions=len(" ".join(inserted)))
    else:
        words = _counts(jiwer.process_words(reference, hypothesis))
        characters = _counts(jiwer.process_characters(reference, hypothesis))
    return Pair(reference, hypothesis, words, characters)


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorCounts:
    return ErrorCounts(output.hits, output.substitutions, output.insertions, output.deletions)


def _rate(counts: Sequence[ErrorCounts]) -> Rate:
    """Compute the rate and its bootstrap interval over utterances.

    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004.
    """
    errors = np.array([count.errors for count in counts])
    totals = np.array([count.total for count in counts])
    if not totals.sum():
        return Rate(None, None)
    generator = np.random.default_rng(0)
    rates = []
    for _ in range(_RESAMPLES):
        sample = generator.integers(len(counts), size=len(counts))
        if totals[sample].sum():
            rates.append(errors[sample].sum() / totals[sample].sum())
    low, high = np.percentile(rates, _INTERVAL_PERCENTILES)
    return Rate(float(errors.sum() / totals.sum()), (float(low), float(high)))
