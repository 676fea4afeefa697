"""The tokenizer of a checkpoint: files of its archive, never files of this machine."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from export_scripts.checkpoints.archive import UNTRUSTED
from export_scripts.errors import RefusedFileError, excerpt

MAX_FILE_BYTES = 16 * 2**20
"""A SentencePiece model of 8192 pieces has 0.4 MB."""

_SPECIAL_TOKEN = re.compile(r"\w+_token")
_IN_ARCHIVE = "nemo:"
_SENTENCE_PIECE = "model_path"
_FILES = {_SENTENCE_PIECE: "tokenizer.model", "vocab_path": "vocab.txt", "spe_tokenizer_vocab": "tokenizer.vocab"}
"""Keys that name a file, with NeMo's default names."""
_REQUIRED = {"bpe": (_SENTENCE_PIECE, "vocab_path"), "wpe": ("vocab_path",)}
"""Types of tokenizers that NeMo builds from the archive, and the files that each needs."""
_WORD_PIECE_SETTINGS = "hf_kwargs"


def tokenizer_in(folder: Path, tokenizer: object) -> dict[str, Any]:
    """Return a tokenizer section whose files are all in `folder`, where the archive was unpacked.

    NeMo would read a file of this machine instead, if one has the name. Old checkpoints name the files by their paths
    on the machine that trained them; these are found in the archive by their last part.

    Args:
        folder: Folder with the files of the archive.
        tokenizer: The section `tokenizer` of the config.

    Raises:
        RefusedFileError: A file is missing, isn't a tokenizer's or is outside of the archive.
    """
    if not isinstance(tokenizer, dict):
        raise RefusedFileError("tokenizer is not a section; get the file again")
    kind = str(tokenizer.get("type")).lower()
    if kind not in _REQUIRED:
        raise RefusedFileError(
            f"tokenizer.type is {excerpt(kind)}; only {' and '.join(_REQUIRED)} can be exported; choose another "
            "checkpoint"
        )
    section: dict[str, Any] = {"type": kind, "dir": str(folder)}
    for key, default in _FILES.items():
        name = _name(f"tokenizer.{key}", tokenizer.get(key) or default)
        file = folder / name
        if file.is_file():
            section[key] = str(file)
            _check_file(file, key)
        elif key in _REQUIRED[kind]:
            path = tokenizer.get(key) or default
            raise RefusedFileError(
                f"tokenizer.{key} is {excerpt(path)}, which is not in the archive; get the file again"
            )
    if isinstance(settings := tokenizer.get(_WORD_PIECE_SETTINGS), dict):
        section[_WORD_PIECE_SETTINGS] = {
            key: value for key, value in settings.items() if _SPECIAL_TOKEN.fullmatch(str(key))
        }
    return section


def _name(key: str, path: object) -> str:
    """Return the name in the archive of a file that the config names."""
    inside = str(path).removeprefix(_IN_ARCHIVE)
    name = PurePosixPath(inside).name
    if name in ("", "..") or (str(path).startswith(_IN_ARCHIVE) and name != inside):
        raise RefusedFileError(f"{key} is {excerpt(path)}, which is outside of the archive; {UNTRUSTED}")
    return name


def _check_file(file: Path, key: str) -> None:
    name = f"{excerpt(file.name)} (tokenizer.{key})"
    if file.stat().st_size > MAX_FILE_BYTES:
        raise RefusedFileError(
            f"{name} has more than {MAX_FILE_BYTES >> 20} MiB, too many for a tokenizer; {UNTRUSTED}"
        )
    content = file.read_bytes()
    if key != _SENTENCE_PIECE:
        try:
            content.decode("utf-8")
        except UnicodeDecodeError:
            raise RefusedFileError(f"{name} is not a text in UTF-8; get the file again") from None
        return
    from sentencepiece import SentencePieceProcessor

    try:
        SentencePieceProcessor().LoadFromSerializedProto(content)
    except RuntimeError:
        raise RefusedFileError(f"{name} is not a SentencePiece model; get the file again") from None
