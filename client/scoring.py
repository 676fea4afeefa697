"""Word error rate, and what is done to both texts before they are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import jiwer


@dataclass(frozen=True)
class Score:
    """Word counts over all utterances."""

    utterances: int
    words: int
    """Words in the references."""
    hits: int
    substitutions: int
    insertions: int
    deletions: int

    @property
    def wer(self) -> float | None:
        """Word error rate as a fraction, above 1 where many words are inserted; None without reference words."""
        errors = self.substitutions + self.insertions + self.deletions
        return errors / self.words if self.words else None


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
    """Count word errors of `hypotheses` against `references`, pair by pair, after the named normalization.

    A reference that is (or becomes) empty counts each word of its hypothesis as an insertion.
    Raises ValueError for sequences of unequal length, KeyError for an unknown normalization.
    """
    normalize = NORMALIZATIONS[normalization].apply
    pairs = [(normalize(ref), normalize(hyp)) for ref, hyp in zip(references, hypotheses, strict=True)]
    spoken = [(reference, hypothesis) for reference, hypothesis in pairs if reference.split()]
    inserted = sum(len(hypothesis.split()) for reference, hypothesis in pairs if not reference.split())
    if not spoken:
        return Score(len(pairs), 0, 0, 0, inserted, 0)
    # jiwer refuses a reference without words, so those pairs are counted above.
    counts = jiwer.process_words([reference for reference, _ in spoken], [hypothesis for _, hypothesis in spoken])
    return Score(
        utterances=len(pairs),
        words=counts.hits + counts.substitutions + counts.deletions,
        hits=counts.hits,
        substitutions=counts.substitutions,
        insertions=counts.insertions + inserted,
        deletions=counts.deletions,
    )
