"""Read a manifest: find out its format, and read all its entries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from nemo_triton.errors import ManifestError
from nemo_triton.manifest.decoding import read_text
from nemo_triton.manifest.delimited import delimited_entries, header_names
from nemo_triton.manifest.entry import AUDIO_FIELDS, Entry, collect
from nemo_triton.manifest.folders import is_file, is_folder, list_folder
from nemo_triton.manifest.json_entries import array_entries, line_entries
from nemo_triton.manifest.kaldi import WAV_LIST, read_kaldi
from nemo_triton.manifest.librispeech import is_librispeech, read_librispeech
from nemo_triton.manifest.suffixes import KALDI_SUFFIX
from nemo_triton.manifest.utterance import Manifest

_LISTED_NAMES = 5
_LONGEST_NAME = 30
_NOT_SPACE = re.compile(r"\S")
_JSON_LINE = re.compile(r'^[ \t]*\{[ \t]*"', re.MULTILINE)


def read_manifest(path: str | Path, text_required: bool = False, *, keep_fields: bool = False) -> Manifest:
    """Read a manifest, or a folder of Kaldi or LibriSpeech. The audio files are not opened and need not exist.

    A manifest is a file with NeMo's JSON lines, a JSON array of objects, or a CSV or TSV with a header; each may be
    compressed by gzip. Fields have the names of NeMo (audio_filepath, text, offset, duration), Common Voice (path,
    sentence), Hugging Face (file_name or audio, transcription) or DeepSpeech (wav_filename, transcript), or are
    filename and transcript, in upper or lower case; a field channel selects a channel. A folder of Kaldi has a wav.scp
    (which can also be given itself), and text and segments; one of LibriSpeech has *.trans.txt somewhere in it.

    A relative audio path is looked up next to the manifest, then in the working directory, then in clips/ next to the
    manifest. If none exists, leading folders are removed until a file next to the manifest matches, because data sets
    are often moved after their manifest was written.

    Args:
        path: The manifest or folder.
        text_required: Report lines without text as problems.
        keep_fields: Keep fields that are not used here, such as a speaker, as `other_fields` of each utterance.

    Returns:
        The utterances, and a problem for each line that can't be used.

    Raises:
        ManifestError: The file or folder can't be read, is not a manifest, or none of its lines can be used.

    Example:
        >>> read_manifest("orders.jsonl").utterances[0].text
        'two large coffees please'
    """
    path = Path(path)
    if is_folder(path):
        manifest = _read_folder(path, text_required)
    else:
        manifest = _read_file(path, text_required=text_required, keep_fields=keep_fields)
    if manifest.utterances:
        return manifest
    if manifest.problems:
        raise ManifestError(f"{manifest.problems[0]} (no other line of this manifest can be used)")
    raise ManifestError(f"{path}: the manifest is empty; write one line per utterance")


def _read_folder(folder: Path, text_required: bool) -> Manifest:
    if is_file(folder / WAV_LIST):
        return read_kaldi(folder / WAV_LIST, text_required)
    contents = list_folder(folder)
    if contents.transcripts:
        manifest = read_librispeech(folder, contents, text_required)
        if is_librispeech(manifest, contents):
            return manifest
    raise ManifestError(
        f"{folder}: is a folder; give a manifest, a .jsonl or .csv file that lists recordings, "
        "or a folder with Kaldi's wav.scp or LibriSpeech's *.trans.txt"
    )


def _read_file(path: Path, *, text_required: bool, keep_fields: bool) -> Manifest:
    if path.suffix.lower() == KALDI_SUFFIX:
        return read_kaldi(path, text_required)
    content = read_text(path)
    first = _NOT_SPACE.search(content)
    if first is None:
        return Manifest()
    entries = _entries(content, first.group(), path)
    return collect(path, entries, text_required=text_required, keep_fields=keep_fields)


def _entries(content: str, first: str, path: Path) -> Iterator[Entry]:
    if first == "{":
        return line_entries(content)
    if first == "[":
        return array_entries(content)
    entries = delimited_entries(content)
    if entries is None and _JSON_LINE.search(content):
        # JSON lines whose first line is damaged.
        return line_entries(content)
    if entries is None:
        raise ManifestError(f"{path}: not a manifest; {_advice(header_names(content))}")
    first_row = next(entries, None)
    if first_row is None:
        raise ManifestError(f"{path}: there is no line after the header; write one line per utterance")
    return chain([first_row], entries)


def _advice(names: Sequence[str]) -> str:
    """What a table lacks, by the names of its columns."""
    if not names:
        return "give JSON lines, or a CSV or TSV whose first line names its columns, such as filename,transcript"
    listed = [json.dumps(name[:_LONGEST_NAME], ensure_ascii=False) for name in names[:_LISTED_NAMES]]
    if len(names) > _LISTED_NAMES:
        listed.append(f"{len(names) - _LISTED_NAMES} more")
    return f"the header has {_join(listed, 'and')}; one column must be {_join(AUDIO_FIELDS, 'or')} (or give JSON lines)"


def _join(names: Sequence[str], word: str) -> str:
    return f" {word} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
