"""A SentencePiece tokenizer of any size, trained on the manual that comes with Python."""

from __future__ import annotations

import re
from pathlib import Path

from nemo.collections.common.tokenizers.sentencepiece_tokenizer import create_spt_model

WORDS_PER_LINE = 12


def train_tokenizer(pieces: int, folder: Path, *, kind: str = "bpe", punctuated: bool = False) -> None:
    """Write tokenizer.model, and the other files that NeMo expects of a `bpe` tokenizer.

    Args:
        pieces: Size of the vocabulary.
        folder: Folder to write to.
        kind: SentencePiece's kind of model, "bpe" or "unigram".
        punctuated: Whether the pieces have capitals and punctuation.
    """
    text = folder / "text.txt"
    words = punctuated_words() if punctuated else english_words()
    lines = [" ".join(words[start : start + WORDS_PER_LINE]) for start in range(0, len(words), WORDS_PER_LINE)]
    text.write_text("\n".join(lines))
    create_spt_model(
        str(text),
        vocab_size=pieces,
        sample_size=-1,
        do_lower_case=not punctuated,
        tokenizer_type=kind,
        output_dir=str(folder),
    )


def english_words() -> list[str]:
    """The words of Python's manual, in lower case."""
    return re.findall(r"[a-z]+(?:'[a-z]+)?", _manual().lower())


def punctuated_words() -> list[str]:
    """The words of Python's manual with their capitals, some of them with the punctuation after them."""
    return re.findall(r"[A-Za-z]+(?:'[a-z]+)?[.,?!]?", _manual())


def _manual() -> str:
    from pydoc_data.topics import topics

    return " ".join(topics[name] for name in sorted(topics))
