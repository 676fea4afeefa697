"""The text of a manifest's file: plain or compressed by gzip, in UTF-8 or UTF-16."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from nemo_triton.audio_decoders import AUDIO_SUFFIXES
from nemo_triton.errors import ManifestError, one_line

LARGEST_FILE = 2**30
"""Bytes of a manifest after decompression. More than ten times what a million utterances need."""

_CHUNK = 2**20
_GZIP_MAGIC = b"\x1f\x8b"


def read_text(path: Path, most: int | None = None) -> str:
    """Read a file as text.

    Args:
        path: The file.
        most: Most bytes after decompression; None allows LARGEST_FILE.

    Raises:
        ManifestError: The file can't be read, is larger, or is not UTF-8 or UTF-16 text.
    """
    try:
        content = _read_bytes(path, LARGEST_FILE if most is None else most)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ManifestError(f"{path}: cannot be unpacked ({one_line(error)}); compress it again with gzip") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        # A path with a NUL or with half of a surrogate pair.
        raise ManifestError(f"{path}: cannot be read ({one_line(error)}); check the path") from error
    return _decode(content, path)


def _read_bytes(path: Path, most: int) -> bytearray:
    with path.open("rb") as file:
        # By content, not by name: a download may have lost its suffix. peek reads also from a pipe.
        compressed = file.peek(2)[:2] == _GZIP_MAGIC
        with gzip.open(file) if compressed else file as stream:
            content = bytearray()
            while chunk := stream.read(_CHUNK):
                # Before the rest, because a recording can be large.
                if not content and b"\0" in chunk and _is_named_audio(path):
                    raise _is_audio(path)
                content += chunk
                if len(content) > most:
                    raise ManifestError(f"{path}: has more than {most / 2**20:,g} MiB of text; split it")
            return content


def _is_named_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES


def _is_audio(path: Path) -> ManifestError:
    return ManifestError(f"{path}: is audio, not a manifest; give a .jsonl or .csv file that lists recordings")


def _decode(content: bytearray, path: Path) -> str:
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise ManifestError(f"{path}: not a manifest (UTF-32 text); convert it with iconv -f UTF-32 -t UTF-8")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode_utf16(content, path)
    # Spreadsheets start a CSV with a byte order mark, which would become part of the first column name.
    if content.startswith(codecs.BOM_UTF8):
        del content[: len(codecs.BOM_UTF8)]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        if _is_named_audio(path):
            raise _is_audio(path) from error
        if b"\0" in content[:_CHUNK]:
            raise ManifestError(f"{path}: not a manifest (not text); give JSON lines, a CSV or a TSV") from error
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"{path}: not a manifest (not UTF-8 text): line {line} has the byte 0x{content[error.start]:02X}; "
            "if it is text from Windows, convert it with iconv -f CP1252 -t UTF-8"
        ) from error
    if "\0" in text[:2]:
        raise ManifestError(
            f"{path}: not a manifest (not UTF-8 text): starts with a NUL; "
            "if it is UTF-16 without a byte order mark, convert it with iconv -f UTF-16LE -t UTF-8"
        )
    return text


def _decode_utf16(content: bytearray, path: Path) -> str:
    try:
        return content.decode("utf-16")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: not a manifest (not valid UTF-16 text: {error.reason} at byte {error.start}); write it as UTF-8"
        ) from error
