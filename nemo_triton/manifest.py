"""Read lists of utterances: NeMo JSON lines, CSV files, or the audio files in a folder."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import soundfile

from nemo_triton.errors import ManifestError, one_line, printable

MANIFEST_SUFFIXES = (".json", ".jsonl", ".csv")

# Error messages use the first name. The second is the one that SpeechLoop writes.
_AUDIO_FIELDS = ("audio_filepath", "filename")
_TEXT_FIELDS = ("text", "transcript")

# libsndfile lists formats, not file suffixes. RAW is excluded: such a file has no header.
_AUDIO_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
_AUDIO_SUFFIXES |= {".mp3", ".oga", ".opus", ".aif", ".wave", ".snd", ".sph"}


@dataclass(frozen=True)
class Utterance:
    """One recording, with its reference text if there is one.

    Attributes:
        audio: Path of the audio file.
        text: Reference transcript; None if unknown.
        duration: Seconds, from the manifest; None if the manifest has no duration.
        line: Line number in the manifest, starting at 1; 0 if the recording comes from no manifest.
    """

    audio: Path
    text: str | None = None
    duration: float | None = field(default=None, compare=False, repr=False)
    line: int = field(default=0, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The audio path as text, for output."""
        return str(self.audio)


@dataclass
class Manifest:
    """The contents of a manifest.

    Attributes:
        utterances: The usable entries, in the manifest's order.
        problems: One message (file:line and field) for each entry that can't be used.
    """

    utterances: list[Utterance] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_manifest(path: str | Path, text_required: bool = False) -> Manifest:
    """Read a manifest: NeMo JSON lines or a CSV file.

    JSON lines have the fields audio_filepath and text. A CSV has a header with the same names, or with filename and
    transcript. The audio files are not opened and need not exist.

    A relative audio path is looked up next to the manifest, then in the working directory. If neither exists, leading
    folders are removed until a file next to the manifest matches, because data sets are often moved after their
    manifest was written.

    Args:
        path: The manifest.
        text_required: Report lines without text as problems.

    Returns:
        The utterances, and a problem for each line that can't be used.

    Raises:
        ManifestError: The file can't be read, is not a manifest, or none of its lines can be used.

    Example:
        >>> read_manifest("orders.jsonl").utterances[0]
        Utterance(audio=PosixPath('order.wav'), text='two large coffees please')
    """
    path = Path(path)
    content = _read_text(path)
    entries = _json_entries(content) if content.lstrip().startswith("{") else _csv_entries(content, path)
    manifest = Manifest()
    for line, entry in entries:
        try:
            manifest.utterances.append(_utterance(entry, path.parent, text_required, line))
        except (ValueError, OSError, RuntimeError) as error:
            # pathlib raises OSError for names that are too long, RuntimeError for unknown users (~name).
            manifest.problems.append(printable(f"{path}:{line}: {one_line(error)}"))
    if not manifest.utterances:
        first = manifest.problems[0] if manifest.problems else f"{path}: there is no line after the header"
        raise ManifestError(f"{first} (no other line of this manifest can be used)")
    return manifest


def find_audio(paths: Sequence[str | Path]) -> Manifest:
    """List the recordings in audio files, folders and manifests. Audio files are not opened.

    Args:
        paths: Audio files, folders (searched recursively) and manifests (.json, .jsonl, .csv).

    Returns:
        The utterances in the order of `paths`, those of a folder sorted by path. A folder without audio and an
        unreadable manifest become problems.

    Example:
        >>> find_audio(["recordings", "order.wav"]).utterances[-1].name
        'order.wav'
    """
    listed = Manifest()
    for path in map(Path, paths):
        if is_folder(path):
            files = [Utterance(file) for file in sorted(path.rglob("*")) if _looks_like_audio(file)]
            listed.utterances += files
            if not files:
                problem = f"{path}: no audio file in this folder; give a folder with e.g. .wav or .flac files"
                listed.problems.append(printable(problem))
        elif path.suffix.lower() in MANIFEST_SUFFIXES:
            try:
                manifest = read_manifest(path)
            except ManifestError as error:
                listed.problems.append(str(error))
            else:
                listed.utterances += manifest.utterances
                listed.problems += manifest.problems
        else:
            listed.utterances.append(Utterance(path))
    return listed


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False if that can't be found out, for example because the path is too long."""
    try:
        return path.is_dir()
    except OSError:
        return False  # load_audio reports what is wrong with the path.


def _looks_like_audio(path: Path) -> bool:
    # Skip hidden files, such as the "._name.wav" that macOS writes to other file systems.
    return path.suffix.lower() in _AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _read_text(path: Path) -> str:
    try:
        # utf-8-sig: spreadsheets start a CSV with a byte order mark, which would become part of the first column name.
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a manifest (not UTF-8 text); give NeMo JSON lines or a CSV") from error
    except IsADirectoryError as error:
        raise ManifestError(
            f"{path}: is a folder; give a manifest, a .jsonl or .csv file that lists recordings"
        ) from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        # A path with a NUL or with half of a surrogate pair.
        raise ManifestError(f"{path}: cannot be read ({one_line(error)}); check the path") from error
    if not content.strip():
        raise ManifestError(f"{path}: the manifest is empty; write one line per utterance")
    return content


def _json_entries(content: str) -> Iterator[tuple[int, Mapping[str, Any] | ValueError]]:
    # splitlines() would also split at characters that JSON allows in a string, such as U+2028.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            yield number, ValueError(f"not valid JSON ({error.msg}, column {error.colno}); write one object per line")
            continue
        except (ValueError, RecursionError) as error:
            yield number, ValueError(f"not usable JSON ({one_line(error)}); write one object per line")
            continue
        yield number, entry if isinstance(entry, dict) else ValueError("not a JSON object; write one object per line")


def _csv_entries(content: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any] | ValueError]]:
    # newline="" leaves line ends to the CSV reader; splitlines() would also split at characters such as U+2028.
    reader = csv.DictReader(io.StringIO(content, newline=""), skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        if not set(header) & set(_AUDIO_FIELDS):
            raise ManifestError(
                f"{path}: not a manifest; give JSON lines with {_AUDIO_FIELDS[0]} and {_TEXT_FIELDS[0]}, "
                f"or a CSV whose first line is {_AUDIO_FIELDS[1]},{_TEXT_FIELDS[1]}"
            )
        reader.fieldnames = header
        for entry in reader:
            yield reader.line_num, entry
    except csv.Error as error:
        yield reader.line_num, ValueError(f"not valid CSV ({one_line(error)}); check its quotes")


def _utterance(entry: Mapping[str, Any] | ValueError, folder: Path, text_required: bool, line: int) -> Utterance:
    """Check one entry. A ValueError names the field that is wrong."""
    if isinstance(entry, ValueError):
        raise entry
    audio = _field(entry, _AUDIO_FIELDS)
    text = _field(entry, _TEXT_FIELDS)
    _check_unicode(text or "", _TEXT_FIELDS[0], "strict")
    # Names of files may hold bytes that are not UTF-8, which Python reads as half of a surrogate pair.
    _check_unicode(audio or "", _AUDIO_FIELDS[0], "surrogateescape")
    if not audio:
        raise ValueError(f"no {_AUDIO_FIELDS[0]}; add the path of the audio file")
    if text is None and text_required:
        raise ValueError(f"no {_TEXT_FIELDS[0]}; add the reference text of {audio}")
    # Scoring the whole file against the text of one segment would give a meaningless WER.
    if entry.get("offset"):
        raise ValueError("offset is not supported; cut the segment into a separate file")
    return Utterance(_resolve(audio, folder), text, _duration(entry), line)


def _duration(entry: Mapping[str, Any]) -> float | None:
    try:
        duration = float(entry["duration"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return duration if 0 <= duration < math.inf else None


def _field(entry: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = entry.get(name)
        if value is not None:
            if not isinstance(value, str):
                raise ValueError(f"{name} is {json.dumps(value)[:40]}; write it as a string")
            return value
    return None


def _check_unicode(value: str, name: str, errors: str) -> None:
    """Refuse half of a surrogate pair, which JSON can hold and no file or terminal."""
    try:
        value.encode("utf-8", errors)
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} has {value[error.start]!r}, which is not a character; write it as Unicode") from error


def _resolve(audio: str, folder: Path) -> Path:
    """Find the file that `audio` names. If none exists, return the path next to the manifest."""
    path = Path(audio).expanduser()
    if path.is_absolute():
        return path
    beside = folder / path
    # Made one by one: the first of a path with thousands of folders is too long, which raises an error.
    tails = (folder.joinpath(*path.parts[start:]) for start in range(1, len(path.parts)))
    return next((candidate for candidate in chain([beside, path], tails) if candidate.is_file()), beside)
