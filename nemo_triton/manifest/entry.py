"""One entry of a manifest, whatever its format: fields become an utterance, or a problem that names the field."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from nemo_triton.audio import Channel
from nemo_triton.audio_decoders import AUDIO_SUFFIXES
from nemo_triton.errors import ManifestError, one_line, printable
from nemo_triton.manifest.decoding import read_text
from nemo_triton.manifest.lookup import Lookup
from nemo_triton.manifest.utterance import Manifest, Utterance

Entry: TypeAlias = tuple[int, Mapping[str, Any] | ValueError]
"""Line number, and the line's fields or what is wrong with it."""

# The first that an entry has is used. Error messages name the first if an entry has none. All are plain names.
_PATH_FIELDS = (
    *("audio_filepath", "audio_filename", "audio_file"),  # NeMo, nemo/collections/common/parts/preprocessing
    "filename",  # SpeechLoop
    "path",  # Common Voice
    "file_name",  # Hugging Face's audio folders
    "wav_filename",  # DeepSpeech
)
# Hugging Face's data sets: a path, or an object with it.
_AUDIO_FIELD = "audio"
AUDIO_FIELDS = (*_PATH_FIELDS, _AUDIO_FIELD)
TEXT_FIELDS = (
    "text",  # NeMo
    "transcript",  # SpeechLoop, DeepSpeech
    "sentence",  # Common Voice
    "transcription",  # Hugging Face
    "normalized_text",  # NeMo
)
TIME_FIELDS = ("offset", "duration")
_OTHER_TIME_FIELDS = ("start", "start_time", "begin", "end", "end_time")
"""Not read: in other tools' manifests they are seconds, milliseconds, samples or the time of day."""
_TEXT_FILE_FIELD = "text_filepath"

# NeMo writes this text where none is known (nemo/collections/asr/parts/utils/manifest_utils.py).
_UNKNOWN_TEXT = "-"
# NeMo cuts only if the duration is positive (nemo/collections/asr/parts/preprocessing/segment.py).
_UNKNOWN_DURATIONS = (0, -1)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_CLOCK_TIME = re.compile(r"\d+(:\d+)+([.,]\d+)?", re.ASCII)
_LARGEST_TEXT_FILE = 2**20
_DEEPEST_FIELD = 100
"""Levels of arrays and objects in a field. Python's JSON writer ends with an error at about ten times as many."""


def plain_name(name: str) -> str:
    """The name of a field without what people write in different ways: `" Filename"` is `filename`."""
    return name.strip().lower()


def collect(path: Path, entries: Iterable[Entry], *, text_required: bool, keep_fields: bool) -> Manifest:
    """Check all entries of a manifest.

    Args:
        path: The manifest, for messages and for relative paths.
        entries: The entries.
        text_required: Report entries without text as problems.
        keep_fields: Keep the other fields of the entries.
    """
    manifest = Manifest(sources=[path])
    files = Lookup(path)
    names: set[str] = set()
    for line, entry in entries:
        if not isinstance(entry, ValueError):
            names |= entry.keys()
        try:
            utterance = _utterance(entry, files, text_required=text_required, keep_fields=keep_fields)
            manifest.utterances.append(replace(utterance, line=line, source=path))
        except (ValueError, OSError, RuntimeError) as error:
            # pathlib raises OSError for names that are too long, RuntimeError for unknown users (~name).
            manifest.problems.append(printable(f"{path}:{line}: {one_line(error)}"))
    manifest.notes += [printable(f"{path}: {note}") for note in _unused_times(names)]
    return manifest


def _unused_times(names: set[str]) -> list[str]:
    """A message about a manifest without offset that has other times, as a list with one message or none."""
    plain_names = set(map(plain_name, names))
    unused = [name for name in _OTHER_TIME_FIELDS if name in plain_names]
    if not unused or "offset" in plain_names:
        return []
    fields = f"{' and '.join(unused)} {'is' if len(unused) == 1 else 'are'}"
    return [f"{fields} not used, whole files are; to cut segments, write offset and duration in seconds"]


def _utterance(
    entry: Mapping[str, Any] | ValueError, files: Lookup, *, text_required: bool, keep_fields: bool
) -> Utterance:
    """Check one entry. A ValueError names the field that is wrong."""
    if isinstance(entry, ValueError):
        raise entry
    written, entry = entry, _by_plain_name(entry)
    audio_field, audio = _audio(entry)
    # Names of files may hold bytes that are not UTF-8, which Python reads as half of a surrogate pair.
    _check_unicode(audio or "", audio_field, "surrogateescape")
    if not audio:
        raise ValueError(f"no {audio_field}; add the path of the audio file")
    text_field, text = _text(entry, files)
    if text is None and text_required:
        raise ValueError(f"no {TEXT_FIELDS[0]}; add the reference text of {audio}")
    return Utterance(
        files.find(audio),
        text,
        _seconds(entry, "duration", unknown=_UNKNOWN_DURATIONS),
        offset=_seconds(entry, "offset"),
        channel=_channel(entry.get("channel")),
        other_fields=_other_fields(written, {audio_field, text_field, *TIME_FIELDS, "channel"}) if keep_fields else {},
    )


def _other_fields(entry: Mapping[str, Any], used: set[str]) -> dict[str, Any]:
    """The fields whose plain names are not in `used`."""
    others = {}
    for name, value in entry.items():
        plain = plain_name(name)
        # An object or array of Hugging Face's audio holds samples.
        if plain in used or (plain == _AUDIO_FIELD and not isinstance(value, str)):
            continue
        if _is_deep(value, _DEEPEST_FIELD):
            raise ValueError(f"{name} is nested more than {_DEEPEST_FIELD} deep; leave it out")
        # The names are the same in thousands of lines.
        others[sys.intern(name)] = value
    return others


def _is_deep(value: object, levels: int) -> bool:
    """Whether arrays and objects are nested deeper than `levels`."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _is_deep(child, levels - 1) for child in children)


def _by_plain_name(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields by their plain names. Of several with the same, one that is written so is kept, else the first."""
    fields: dict[str, Any] = {}
    for name, value in entry.items():
        plain = plain_name(name)
        if plain == name or plain not in fields:
            fields[plain] = value
    return fields


def _audio(entry: Mapping[str, Any]) -> tuple[str, str | None]:
    """The field with the path of the recording, and the path; None if the entry has no such field."""
    name, path = _string(entry, _PATH_FIELDS)
    audio = entry.get(_AUDIO_FIELD)
    if path is not None or audio is None:
        return name, path
    if isinstance(audio, Mapping):
        path = _string(audio, ("path",))[1]
        if not path:
            raise ValueError(f"{_AUDIO_FIELD} is an object without a path; write the path of the audio file")
        return _AUDIO_FIELD, path
    # The object as pandas and csv write it into a table.
    if isinstance(audio, str) and audio.startswith(("{'", '{"')):
        raise ValueError(f"{_AUDIO_FIELD} is {json.dumps(audio)[:40]}; write only the path of the audio file")
    return _string(entry, (_AUDIO_FIELD,))


def _string(entry: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, str | None]:
    """The first of these fields that the entry has, and its value."""
    for name in names:
        value = entry.get(name)
        if value is not None:
            if not isinstance(value, str):
                raise ValueError(f"{name} is {json.dumps(value)[:40]}; write it as a string")
            return name, value
    return names[0], None


def _text(entry: Mapping[str, Any], files: Lookup) -> tuple[str, str | None]:
    """The field with the text, and the text; None if it is unknown."""
    name, text = _string(entry, TEXT_FIELDS)
    if text is None and entry.get(_TEXT_FILE_FIELD) is not None:
        name, text = _TEXT_FILE_FIELD, _text_of_file(entry, files)
    if text is None or text.strip() == _UNKNOWN_TEXT:
        return name, None
    _check_unicode(text, name, "strict")
    return name, text


def _text_of_file(entry: Mapping[str, Any], files: Lookup) -> str | None:
    name = _string(entry, (_TEXT_FILE_FIELD,))[1]
    if not name:
        return None
    path = files.find(name)
    if not path.is_file():
        raise ValueError(f"{_TEXT_FILE_FIELD} {path}: no such file; check the path")
    if path.suffix.lower() in AUDIO_SUFFIXES:
        raise ValueError(f"{_TEXT_FILE_FIELD} {path}: is audio; name the file with the text")
    try:
        # NeMo removes line breaks, which joins the words next to them.
        return " ".join(read_text(path, _LARGEST_TEXT_FILE).splitlines()).strip()
    except ManifestError as error:
        raise ValueError(f"{_TEXT_FILE_FIELD} {error}") from error


def _seconds(entry: Mapping[str, Any], name: str, unknown: tuple[float, ...] = ()) -> float | None:
    """A time in seconds, as a number or as text; None if it is missing, empty or one of `unknown`."""
    value = entry.get(name)
    if value is None or value == "":
        return None
    seconds = _number(value)
    if seconds in unknown:
        return None
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} is {json.dumps(value)[:40]}; write seconds{_hint(value)}, such as 3.5")
    return seconds


def _hint(value: object) -> str:
    """How the seconds in a text should be written instead; empty if the text is something else."""
    text = value.strip() if isinstance(value, str) else ""
    if DECIMAL_COMMA.fullmatch(text):
        return " with a decimal point"
    return " without minutes" if _CLOCK_TIME.fullmatch(text) else ""


def _number(value: object) -> float:
    """`value` as a number; NaN if it is none."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    # bool is a subclass of int.
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return math.nan


def _channel(value: object) -> Channel | None:
    if value is None or value == "":
        return None
    if value == "left" or value == "right" or value == "average":
        return value
    number = _number(value)
    if number >= 0 and number.is_integer():
        return int(number)
    hint = "write one line per channel" if value == "each" else "write 0, 1, ..., left, right or average"
    raise ValueError(f"channel is {json.dumps(value)[:40]}; {hint}")


def _check_unicode(value: str, name: str, errors: str) -> None:
    """Refuse half of a surrogate pair, which JSON can hold and no file or terminal."""
    try:
        value.encode("utf-8", errors)
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} has {value[error.start]!r}, which is not a character; write it as Unicode") from error
