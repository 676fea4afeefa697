"""The files in a folder: recordings, LibriSpeech's transcripts, and what is skipped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nemo_triton.audio_decoders import AUDIO_SUFFIXES, TRANSPORT_STREAM_SUFFIXES, is_transport_stream
from nemo_triton.errors import one_line, printable

TRANSCRIPTS_SUFFIX = ".trans.txt"
"""Of LibriSpeech's files with one line per utterance: its name and its text."""

_LISTED_KINDS = 5
_LONGEST_SUFFIX = 12


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False if that can't be found out, for example because the path is too long."""
    try:
        return path.is_dir()
    except OSError:
        return False  # load_audio reports what is wrong with the path.


def is_file(path: Path) -> bool:
    """Whether a path is a file; False if that can't be found out, for example in a folder without permissions."""
    try:
        return path.is_file()
    except OSError:
        return False


@dataclass
class FolderContents:
    """Files in a folder and all folders in it, except hidden and linked folders.

    Attributes:
        audio: Recordings, by their suffix; sorted.
        transcripts: LibriSpeech's transcripts; sorted.
        skipped: Number of other files by kind. Hidden ones are not counted.
        hidden: Number of recordings by kind that are hidden, or in hidden folders.
        linked: Links to folders, relative to the folder; sorted.
        problems: One message for each folder that can't be read.
    """

    audio: list[Path] = field(default_factory=list)
    transcripts: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    linked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def list_folder(folder: Path) -> FolderContents:
    """List the files in a folder and all folders in it. Only those that may be TypeScript are opened."""
    contents = FolderContents()

    def unreadable(error: OSError) -> None:
        if not _is_hidden(Path(error.filename).relative_to(folder)):
            reason = error.strerror or one_line(error)
            contents.problems.append(printable(f"{error.filename}: cannot be read ({reason}); check its permissions"))

    # os.walk instead of rglob: it knows the kind of each file without a stat, reports unreadable folders, and does not
    # follow links to folders, which may lead to a parent.
    for parent, folders, names in os.walk(folder, onerror=unreadable):
        place = Path(parent).relative_to(folder)
        in_hidden = _is_hidden(place)
        for name in names:
            add = _add_hidden if in_hidden or name.startswith(".") else _add
            add(Path(parent, name), contents)
        if not in_hidden:
            links = (name for name in folders if not name.startswith(".") and Path(parent, name).is_symlink())
            contents.linked += [str(place / name) for name in links]
    contents.audio.sort()
    contents.transcripts.sort()
    contents.linked.sort()
    return contents


def recordings_in(folder: Path) -> list[Path]:
    """The recordings in a folder without those in its folders, except hidden ones; none if it can't be read."""
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []
    return [path for path in paths if is_file(path) and _is_audio(path)]


def _is_hidden(place: Path) -> bool:
    """Whether a path, relative to the folder that was given, is hidden or in a hidden folder."""
    return any(part.startswith(".") for part in place.parts)


def _add(path: Path, contents: FolderContents) -> None:
    suffix = path.suffix.lower()
    if suffix in AUDIO_SUFFIXES and not is_file(path):
        # A broken link, or a pipe, which would block the reader.
        contents.skipped[f"{suffix} that is no file"] += 1
    elif _is_audio(path):
        contents.audio.append(path)
    elif path.name.endswith(TRANSCRIPTS_SUFFIX):
        contents.transcripts.append(path)
    else:
        contents.skipped[_kind(path)] += 1


def _add_hidden(path: Path, contents: FolderContents) -> None:
    # macOS keeps properties of a.wav in ._a.wav.
    if not path.name.startswith("._") and is_file(path) and _is_audio(path):
        contents.hidden[_kind(path)] += 1


def _is_audio(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in AUDIO_SUFFIXES and (suffix not in TRANSPORT_STREAM_SUFFIXES or is_transport_stream(path))


def left_out(contents: FolderContents) -> list[str]:
    """What of a folder is not looked at: a message for hidden recordings, and one for linked folders, if there are any.

    Others are counted by `skipped_files` or `count_unlisted`.
    """
    messages = []
    if contents.hidden:
        messages.append(f"{_files(contents.hidden.total())} skipped, hidden ({kinds(contents.hidden)})")
    if contents.linked:
        count = len(contents.linked)
        names = ", ".join(contents.linked[:_LISTED_KINDS]) + (", ..." if count > _LISTED_KINDS else "")
        if count == 1:
            messages.append(f"1 linked folder skipped ({names}); give its path, too, to read it")
        else:
            messages.append(f"{count} linked folders skipped ({names}); give their paths, too, to read them")
    return messages


def skipped_files(skipped: Counter[str]) -> str:
    """How many files were skipped: `3 files skipped, not audio (2 .txt, 1 .pdf)`."""
    return f"{_files(skipped.total())} skipped, not audio ({kinds(skipped)})"


def unlisted_audio(audio: Iterable[Path], listed: Iterable[Path]) -> list[Path]:
    """The recordings of a folder that its list leaves out.

    Args:
        audio: Recordings in the folder.
        listed: Recordings in its list.
    """
    known = set(map(without_dots, listed))
    return [path for path in audio if not known or without_dots(path) not in known]


def count_unlisted(audio: Iterable[Path], listed: Iterable[Path], where: str) -> list[str]:
    """Count the recordings of a folder that its list leaves out, as a list with one message or none.

    Args:
        audio: Recordings in the folder.
        listed: Recordings in its list.
        where: Name of the list.
    """
    unlisted = Counter(map(_kind, unlisted_audio(audio, listed)))
    return [f"{_files(unlisted.total())} skipped, not in {where} ({kinds(unlisted)})"] if unlisted else []


def without_dots(path: Path) -> Path:
    """The absolute path without `..`, which lists have that name files outside their folder. No file is looked up."""
    return Path(os.path.normpath(path.absolute()))


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"


def kinds(counted: Counter[str]) -> str:
    """The most common kinds with their numbers."""
    listed = sorted(counted.items(), key=lambda kind: (-kind[1], kind[0]))[:_LISTED_KINDS]
    others = counted.total() - sum(number for _, number in listed)
    return ", ".join([*(f"{number} {kind}" for kind, number in listed), *([f"{others} others"] if others else [])])


def _kind(path: Path) -> str:
    return path.suffix.lower()[:_LONGEST_SUFFIX] or "without suffix"
