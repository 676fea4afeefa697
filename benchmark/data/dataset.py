"""Prepared data sets: a NeMo manifest, and a description with checksums that identify the data."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmark.core.results_folder import ResultsError
from benchmark.data.download import digest
from nemo_triton.audio import seconds
from nemo_triton.errors import AudioError, ManifestError
from nemo_triton.manifest import Utterance, read_manifest
from nemo_triton.utterances import load_utterance

MANIFEST = "manifest.jsonl"
DESCRIPTION = "dataset.json"

_MICROSECOND_DIGITS = 6


@dataclass(frozen=True)
class Description:
    """Content of DESCRIPTION. Data sets with equal checksums have the same texts and recordings.

    Attributes:
        name: Name of the data set.
        source: URL, or path of the manifest as the user wrote it.
        licence: Licence of the data; None if the source does not state one.
        utterances: Number of utterances.
        seconds: Total duration of the audio.
        manifest_sha256: Checksum of MANIFEST.
        audio_sha256: Checksum of the bytes of all audio files, in manifest order.
    """

    name: str
    source: str
    licence: str | None
    utterances: int
    seconds: float
    manifest_sha256: str
    audio_sha256: str


@dataclass(frozen=True)
class Dataset:
    """A prepared data set: its folder and its description."""

    folder: Path
    description: Description

    @property
    def manifest(self) -> Path:
        """The manifest, with text and duration of each utterance."""
        return self.folder / MANIFEST

    @property
    def digests(self) -> dict[str, str]:
        """Checksums that identify the data set in results."""
        return {
            "manifest_sha256": self.description.manifest_sha256,
            "audio_sha256": self.description.audio_sha256,
        }

    def durations(self) -> list[float]:
        """Duration of each utterance in seconds, in manifest order.

        Raises:
            ManifestError: The manifest can't be read.
        """
        # Checked first: its errors are one line that names the line of the file.
        read_manifest(self.manifest)
        return [float(json.loads(line)["duration"]) for line in self.manifest.read_text(encoding="utf-8").splitlines()]


@dataclass
class WriteResult:
    """Result of write_dataset.

    Attributes:
        description: Description of the data set.
        changed: Whether any file changed.
        problems: One line per skipped entry.
    """

    description: Description
    changed: bool
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """Origin of a data set.

    Attributes:
        name: Name of the data set.
        source: URL, or path of the manifest as the user wrote it.
        licence: Licence of the data; None if the source does not state one.
    """

    name: str
    source: str
    licence: str | None = None


def write_dataset(
    folder: Path, origin: Source, utterances: list[Utterance], advance: Callable[[], None] = lambda: None
) -> WriteResult:
    """Write MANIFEST and DESCRIPTION. Audio files stay where they are.

    Each audio file is decoded completely for its duration. A file that can't be read is skipped and reported.

    Args:
        folder: Folder to write to; created if needed.
        origin: Name, source and licence of the data set.
        utterances: Utterances, all with text.
        advance: Function that is called after each utterance.

    Raises:
        ManifestError: No utterance can be used.
        OSError: A file can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    listed: set[str] = set()
    durations: list[float] = []
    files: list[Path] = []
    lines: list[str] = []
    for utterance in utterances:
        try:
            if utterance.name in listed:
                # Results are identified by the file, or by file, segment and channel.
                raise AudioError(f"{utterance.name}: listed twice; only the first entry is used")
            listed.add(utterance.name)
            duration = seconds(load_utterance(utterance))
        except AudioError as error:
            problems.append(str(error))
        else:
            durations.append(duration)
            files.append(utterance.audio)
            lines.append(_line(utterance, duration, folder))
        advance()
    if not lines:
        first = problems[0] if problems else f"{origin.source}: has no utterance"
        raise ManifestError(f"{first} (no other utterance of {origin.name} can be used either)")
    manifest = folder / MANIFEST
    changed = _write_changed(manifest, "".join(lines).encode())
    description = Description(
        **asdict(origin),
        utterances=len(lines),
        seconds=round(sum(durations), _MICROSECOND_DIGITS),
        manifest_sha256=digest([manifest]),
        audio_sha256=digest(dict.fromkeys(files)),
    )
    if read_description(folder) != description:
        changed = True
        (folder / DESCRIPTION).write_text(json.dumps(asdict(description), indent=2) + "\n", encoding="utf-8")
    return WriteResult(description, changed, problems)


def _write_changed(file: Path, content: bytes) -> bool:
    """Write the file if its content differs, and return whether it did."""
    # Bytes, not text: line endings must not change, since the checksum is of bytes.
    if file.is_file() and file.read_bytes() == content:
        return False
    file.write_bytes(content)
    return True


def read_description(folder: Path) -> Description | None:
    """Read the description in `folder`; None if it is missing or invalid."""
    try:
        return Description(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def open_dataset(folder: Path) -> Dataset:
    """Open a data set that `python -m benchmark.prepare` wrote.

    Raises:
        ResultsError: The folder has no valid description.
    """
    description = read_description(folder)
    if description is None:
        raise ResultsError(f"{folder}: holds no {DESCRIPTION}; write it with python -m benchmark.prepare")
    return Dataset(folder, description)


def intact(folder: Path) -> Description | None:
    """The description in `folder` if the checksums of manifest and audio still match, else None."""
    description = read_description(folder)
    if description is None:
        return None
    try:
        if digest([folder / MANIFEST]) != description.manifest_sha256:
            return None
        audio = digest(dict.fromkeys(utterance.audio for utterance in read_manifest(folder / MANIFEST).utterances))
    except (ManifestError, OSError):
        return None
    return description if audio == description.audio_sha256 else None


def _line(utterance: Utterance, duration: float, folder: Path) -> str:
    # Resolved first: ".." after a symbolic link leads to the parent of the link's target.
    relative = os.path.relpath(utterance.audio.resolve(), folder.resolve())
    segment = {"offset": utterance.offset, "channel": utterance.channel}
    entry = {
        "audio_filepath": Path(relative).as_posix(),
        **{name: value for name, value in segment.items() if value is not None},
        "duration": round(duration, _MICROSECOND_DIGITS),
        "text": utterance.text,
    }
    # json.dumps escapes all but ASCII: a text may hold half a surrogate pair, which UTF-8 can't encode.
    return json.dumps(entry) + "\n"
