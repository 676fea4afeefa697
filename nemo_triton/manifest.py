"""Lists of utterances: NeMo JSON lines, CSV, or the audio files of a folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile

from nemo_triton.errors import ManifestError, one_line

MANIFEST_SUFFIXES = (".json", ".jsonl", ".csv")

# The first name is the one used in messages; the second is SpeechLoop's.
_AUDIO_FIELDS = ("audio_filepath", "filename")
_TEXT_FIELDS = ("text", "transcript")

# libsndfile names formats, not file endings. RAW is left out: nothing in such a file says how to read it.
_AUDIO_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
_AUDIO_SUFFIXES |= {".mp3", ".oga", ".opus", ".aif", ".wave", ".snd", ".sph"}


@dataclass(frozen=True)
class Utterance:
    """One recording and, if it is known, what is said in it.

    Attributes:
        audio: The path of its audio file.
        text: The reference transcript; None if it is not known.
        duration: Seconds, as the manifest has it; None if it has none.
        line: Number of its line in the manifest, from 1; 0 without a manifest.
    """

    audio: Path
    text: str | None = None
    duration: float | None = field(default=None, compare=False, repr=False)
    line: int = field(default=0, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The audio path as it was resolved, for printing."""
        return str(self.audio)


@dataclass
class Manifest:
    """What a manifest lists.

    Attributes:
        utterances: In the order they were listed.
        problems: One line (file:line and field) for each entry that can't be used.
    """

    utterances: list[Utterance] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_manifest(path: str | Path, text_required: bool = False) -> Manifest:
    """Read NeMo JSON lines (audio_filepath, text) or a CSV with a header (filename, transcript, or NeMo's names).

    Whether the audio exists is not checked here. An audio path is absolute, or relative to the manifest or else to the
    working directory; failing both, leading folders are dropped until a file is found beside the manifest, since data
    sets are often moved away from the path their CSV was written with.

    Args:
        path: Of the manifest.
        text_required: Whether a line without text is a problem.

    Returns:
        The utterances, and a problem for each line that can't be used.

    Raises:
        ManifestError: The file can't be read, is no manifest, or has no usable line at all.

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
            # pathlib raises the latter two for names that no file system takes and users that do not exist.
            manifest.problems.append(f"{path}:{line}: {one_line(error)}")
    if not manifest.utterances:
        first = manifest.problems[0] if manifest.problems else f"{path}: there is no line after the header"
        raise ManifestError(f"{first} (and no other line of this manifest can be used)")
    return manifest


def find_audio(paths: Sequence[str | Path]) -> Manifest:
    """List the utterances behind audio files, folders and manifests. Audio files are not opened.

    Args:
        paths: Audio files, folders (all their audio files, sorted) and manifests (.json, .jsonl, .csv).

    Returns:
        The utterances in the order given. A folder without audio and an unreadable manifest become problems.

    Example:
        >>> find_audio(["recordings", "order.wav"]).utterances[-1].name
        'order.wav'
    """
    listed = Manifest()
    for path in map(Path, paths):
        if _is_folder(path):
            files = [Utterance(file) for file in sorted(path.rglob("*")) if _looks_like_audio(file)]
            listed.utterances += files
            if not files:
                listed.problems.append(f"{path}: no audio file in this folder; name one that holds e.g. .wav or .flac")
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


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # Reading it as audio says what is wrong with it.


def _looks_like_audio(path: Path) -> bool:
    # A leading dot marks a file not meant to be listed, such as the "._name.wav" that macOS leaves on other disks.
    return path.suffix.lower() in _AUDIO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _read_text(path: Path) -> str:
    try:
        # utf-8-sig: spreadsheets begin a CSV with a byte order mark, which would become part of the first column name.
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a manifest (not UTF-8 text); give NeMo JSON lines or a CSV") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not content.strip():
        raise ManifestError(f"{path}: the manifest is empty; it needs one line for each utterance")
    return content


def _json_entries(content: str) -> Iterator[tuple[int, Mapping[str, Any] | ValueError]]:
    # Not splitlines(), which also splits at characters that JSON allows inside a string, such as U+2028.
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
    # newline="" leaves line ends to the reader; splitlines() would also split at characters such as U+2028.
    reader = csv.DictReader(io.StringIO(content, newline=""), skipinitialspace=True, strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        if not set(header) & set(_AUDIO_FIELDS):
            raise ManifestError(
                f"{path}: not a manifest; it needs JSON lines with {_AUDIO_FIELDS[0]} and {_TEXT_FIELDS[0]}, "
                f"or a CSV whose first line is {_AUDIO_FIELDS[1]},{_TEXT_FIELDS[1]}"
            )
        reader.fieldnames = header
        for entry in reader:
            yield reader.line_num, entry
    except csv.Error as error:
        yield reader.line_num, ValueError(f"not valid CSV ({one_line(error)}); mend its quotes")


def _utterance(entry: Mapping[str, Any] | ValueError, folder: Path, text_required: bool, line: int) -> Utterance:
    """Raises ValueError, saying which field is wrong."""
    if isinstance(entry, ValueError):
        raise entry
    audio = _field(entry, _AUDIO_FIELDS)
    text = _field(entry, _TEXT_FIELDS)
    if not audio:
        raise ValueError(f"no {_AUDIO_FIELDS[0]}; name the audio file of this utterance")
    if text is None and text_required:
        raise ValueError(f"no {_TEXT_FIELDS[0]}; write what is said in {audio}")
    # Recognizing the whole file against the text of one segment would give a WER that means nothing.
    if entry.get("offset"):
        raise ValueError("offset is not supported; cut the segment into a file of its own")
    return Utterance(_resolve(audio, folder), text, _duration(entry), line)


def _duration(entry: Mapping[str, Any]) -> float | None:
    try:
        return float(entry["duration"])
    except (KeyError, TypeError, ValueError):
        return None


def _field(entry: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = entry.get(name)
        if value is not None:
            if not isinstance(value, str):
                raise ValueError(f"{name} is {json.dumps(value)[:40]}; write it as a string")
            return value
    return None


def _resolve(audio: str, folder: Path) -> Path:
    """The file that `audio` names; the one beside the manifest where none exists, for the error that then follows."""
    path = Path(audio).expanduser()
    if path.is_absolute():
        return path
    tails = [Path(*path.parts[start:]) for start in range(1, len(path.parts))]
    candidates = [folder / path, path, *(folder / tail for tail in tails)]
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
