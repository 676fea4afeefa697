"""Kaldi's data folders: wav.scp, and text and segments if they are there.

Source: https://kaldi-asr.org/doc/data_prep.html
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from nemo_triton.errors import one_line, printable
from nemo_triton.manifest.decoding import read_text
from nemo_triton.manifest.folders import count_unlisted, recordings_in, without_dots
from nemo_triton.manifest.lookup import Lookup
from nemo_triton.manifest.utterance import Manifest, Utterance

WAV_LIST = "wav.scp"
_TEXTS = "text"
_SEGMENTS = "segments"

_IN_ARCHIVE = re.compile(r"\.ark:\d+$")
_END_OF_FILE = -1

Value = TypeVar("Value")


@dataclass
class _Table(Generic[Value]):
    """A file with one line per key.

    Attributes:
        values: Line number and value by key.
        refused: Line number by key, of lines that can't be used.
        problems: One message for each line that can't be used.
    """

    values: dict[str, tuple[int, Value]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Segment:
    """A part of a recording.

    Attributes:
        recording: Key of the recording.
        offset: Start in seconds; None for the whole recording.
        duration: Seconds; None up to the end of the recording.
        channel: Channel of the recording; None if the file has none.
    """

    recording: str
    offset: float | None = None
    duration: float | None = None
    channel: int | None = None


def read_kaldi(wav_list: Path, text_required: bool) -> Manifest:
    """Read a data folder.

    Entries of wav.scp that are commands are refused and never run.

    Args:
        wav_list: The folder's wav.scp.
        text_required: Report utterances without text as problems.

    Returns:
        The utterances in the order of segments if this file exists, else of wav.scp.

    Raises:
        ManifestError: A file can't be read.
    """
    folder = wav_list.parent
    files = Lookup(wav_list)
    recordings = _read(wav_list, lambda value: files.find(_audio(value)))
    texts: _Table[str] = _read(folder / _TEXTS, str) if (folder / _TEXTS).is_file() else _Table()
    if (folder / _SEGMENTS).is_file():
        source = folder / _SEGMENTS
        segments = _read(source, _segment)
    else:
        source = wav_list
        segments = _Table({key: (line, _Segment(key)) for key, (line, _) in recordings.values.items()})
    sources = [file for file in (wav_list, folder / _TEXTS, folder / _SEGMENTS) if file.is_file()]
    manifest = Manifest(problems=[*recordings.problems, *segments.problems, *texts.problems], sources=sources)
    skipped: Counter[str] = Counter()
    for key, (line, segment) in segments.values.items():
        try:
            if segment.recording in recordings.refused:
                skipped[segment.recording] += 1
                continue
            utterance = _utterance(key, segment, recordings, texts, text_required)
            manifest.utterances.append(replace(utterance, line=line, source=source))
        except ValueError as error:
            manifest.problems.append(printable(f"{source}:{line}: {one_line(error)}"))
    for note in _unlisted(wav_list, [path for _, path in recordings.values.values()]):
        manifest.notes.append(printable(f"{folder}: {note}"))
    for recording, count in skipped.items():
        line = recordings.refused[recording]
        segments_skipped = f"{count} segment{'' if count == 1 else 's'} skipped"
        manifest.notes.append(printable(f"{source}: {segments_skipped}, because {wav_list}:{line} can't be used"))
    return manifest


def _unlisted(wav_list: Path, listed: Sequence[Path]) -> list[str]:
    """Count the recordings beside wav.scp, and beside those that it names in the folder's folders.

    Not in the whole tree: a data folder can be that of a recipe, with millions of files.
    """
    folder = without_dots(wav_list.parent)
    folders = {folder, *(without_dots(path).parent for path in listed)}
    audio = (path for place in folders if place.is_relative_to(folder) for path in recordings_in(place))
    return count_unlisted(audio, listed, wav_list.name)


def _read(path: Path, parse: Callable[[str], Value]) -> _Table[Value]:
    table: _Table[Value] = _Table()
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        key, *value = line.split(maxsplit=1)
        try:
            if key in table.values:
                raise ValueError(f"{key} is listed twice; only the first line is used")
            table.values[key] = number, parse(value[0].strip() if value else "")
        except (ValueError, OSError, RuntimeError) as error:
            # pathlib raises OSError for names that are too long, RuntimeError for unknown users (~name).
            table.refused.setdefault(key, number)
            table.problems.append(printable(f"{path}:{number}: {one_line(error)}"))
    return table


def _utterance(
    key: str,
    segment: _Segment,
    recordings: _Table[Path],
    texts: _Table[str],
    text_required: bool,
) -> Utterance:
    if segment.recording not in recordings.values:
        raise ValueError(f"the recording {segment.recording} is not in {WAV_LIST}; add it there")
    text = texts.values.get(key, (0, None))[1]
    if text is None and text_required:
        raise ValueError(f"no text; add a line for {key} to the file {_TEXTS}")
    return Utterance(
        recordings.values[segment.recording][1],
        text,
        segment.duration,
        offset=segment.offset,
        channel=segment.channel,
        other_fields={"utt_id": key},
    )


def _audio(value: str) -> str:
    if not value:
        raise ValueError("no path after the name of the recording; add the path of the audio file")
    if value.endswith("|"):
        raise ValueError("a command (ends in |), which is not run; write its output to a file and list that")
    if _IN_ARCHIVE.search(value):
        raise ValueError("a place in an archive (.ark); unpack the archive with wav-copy and list the files")
    return value


def _segment(value: str) -> _Segment:
    try:
        recording, start, end, *channel = value.split()
        offset, stop = float(start), float(end)
        number = int(channel[0]) if channel else None
    except ValueError:
        raise ValueError("not a segment; write its name, the recording, start and end in seconds") from None
    if len(channel) > 1 or (number is not None and number < 0):
        raise ValueError("not a segment; write nothing after the end but a channel, 0 or more")
    to_end = stop == _END_OF_FILE
    if not (0 <= offset < math.inf and (to_end or offset < stop < math.inf)):
        raise ValueError(f"starts at {start} and ends at {end}; write seconds, the end after the start")
    return _Segment(recording, offset, None if to_end else stop - offset, number)
