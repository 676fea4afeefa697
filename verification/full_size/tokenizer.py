"""A SentencePiece tokenizer of any size, trained on the manual that comes with Python."""

from __future__ import annotations

import re
from pathlib import Path

from nemo.collections.common.tokenizers.sentencepiece_tokenizer import create_spt_model

WORDS_PER_LINE = 12


def train_tokenizer(pieces: int, folder: Path) -> None:
    """Write tokenizer.model, and the other files that NeMo expects of a `bpe` tokenizer, into `folder`."""
    text = folder / "text.txt"
    words = english_words()
    lines = [" ".join(words[start : start + WORDS_PER_LINE]) for start in range(0, len(words), WORDS_PER_LINE)]
    text.write_text("\n".join(lines))
    create_spt_model(
        str(text),
        vocab_size=pieces,
        sample_size=-1,
        do_lower_case=True,
        tokenizer_type="bpe",
        output_dir=str(folder),
    )


def english_words() -> list[str]:
    """The words of Python's manual, in lower case."""
    from pydoc_data.topics import topics

    return re.findall(r"[a-z]+(?:'[a-z]+)?", " ".join(topics[name] for name in sorted(topics)).lower())
