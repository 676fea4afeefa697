"""The one form of every data set that is measured: a NeMo manifest, and a description by which it is known again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmark.core.results_folder import ResultsError
from benchmark.data.download import digest
from nemo_triton.audio import load_audio, seconds
from nemo_triton.errors import AudioError, ManifestError
from nemo_triton.manifest import Utterance, read_manifest

MANIFEST = "manifest.jsonl"
DESCRIPTION = "dataset.json"

_MICROSECOND_DIGITS = 6


@dataclass(frozen=True)
class Description:
    """What DESCRIPTION holds. Two sets with equal digests are the same texts and the same recordings."""

    name: str
    source: str
    """Where it is from: a URL, or the path of a manifest as it was given."""
    licence: str | None
    """None where the source does not say."""
    utterances: int
    seconds: float
    """Audio in all."""
    manifest_sha256: str
    audio_sha256: str
    """Over the bytes of all audio files, one after the other, in the order of the manifest."""


@dataclass(frozen=True)
class Dataset:
    """A prepared data set: its folder, and what is known of it."""

    folder: Path
    description: Description

    @property
    def manifest(self) -> Path:
        """The utterances, with text and duration."""
        return self.folder / MANIFEST

    @property
    def digests(self) -> dict[str, str]:
        """By which results are known to be of this data set."""
        return {
            "manifest_sha256": self.description.manifest_sha256,
            "audio_sha256": self.description.audio_sha256,
        }

    def durations(self) -> list[float]:
        """Seconds of each utterance, in the order of the manifest. Raises ManifestError."""
        read_manifest(self.manifest)  # Raises what is wrong with it, in one line.
        return [float(json.loads(line)["duration"]) for line in self.manifest.read_text(encoding="utf-8").splitlines()]


@dataclass
class Written:
    """What became of a data set: its description, whether anything on disk changed, a line for each entry left out."""

    description: Description
    changed: bool
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """Where a data set is from, as Description has it."""

    name: str
    source: str
    licence: str | None = None


def write_dataset(
    folder: Path, origin: Source, utterances: list[Utterance], measured: Callable[[], None] = lambda: None
) -> Written:
    """Write MANIFEST and DESCRIPTION of the utterances, all with text, to `folder`, which is made.

    Audio stays where and as it is; its path is written relative to `folder`. Each file is read to its end, as a client
    will, for its duration in seconds. One that cannot be read becomes a problem and costs the others nothing.
    `measured` is called after each.

    Raises ManifestError where no utterance is left, and OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    listed: set[Path] = set()
    durations: dict[Path, float] = {}
    lines: list[str] = []
    for utterance in utterances:
        try:
            if utterance.audio in listed:
                # Results are told apart by their audio.
                raise AudioError(f"{utterance.audio}: is listed twice; only its first text is kept")
            listed.add(utterance.audio)
            duration = seconds(load_audio(utterance.audio))
        except AudioError as error:
            problems.append(str(error))
        else:
            durations[utterance.audio] = duration
            lines.append(_line(utterance, duration, folder))
        measured()
    if not lines:
        first = problems[0] if problems else f"{origin.source}: there is no utterance"
        raise ManifestError(f"{first} (and no other utterance of {origin.name} can be used)")
    manifest = folder / MANIFEST
    changed = _write_changed(manifest, "".join(lines).encode())
    description = Description(
        **asdict(origin),
        utterances=len(lines),
        seconds=round(sum(durations.values()), _MICROSECOND_DIGITS),
        manifest_sha256=digest([manifest]),
        audio_sha256=digest(durations),
    )
    if read_description(folder) != description:
        changed = True
        (folder / DESCRIPTION).write_text(json.dumps(asdict(description), indent=2) + "\n", encoding="utf-8")
    return Written(description, changed, problems)


def _write_changed(file: Path, content: bytes) -> bool:
    """Write the file unless it has that content; whether it had not."""
    # Compared as bytes: the digest is of these, and no system's line ends shall change it.
    if file.is_file() and file.read_bytes() == content:
        return False
    file.write_bytes(content)
    return True


def read_description(folder: Path) -> Description | None:
    """The description in `folder`; None where there is none that can be used."""
    try:
        return Description(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def open_dataset(folder: Path) -> Dataset:
    """A data set that `python -m benchmark.prepare` wrote. Raises ResultsError where there is none."""
    description = read_description(folder)
    if description is None:
        raise ResultsError(f"{folder}: holds no {DESCRIPTION}; make it with python -m benchmark.prepare")
    return Dataset(folder, description)


def intact(folder: Path) -> Description | None:
    """The description in `folder` if manifest and audio still have its digests, or None."""
    description = read_description(folder)
    if description is None:
        return None
    try:
        if digest([folder / MANIFEST]) != description.manifest_sha256:
            return None
        audio = digest(utterance.audio for utterance in read_manifest(folder / MANIFEST).utterances)
    except (ManifestError, OSError):
        return None
    return description if audio == description.audio_sha256 else None


def _line(utterance: Utterance, duration: float, folder: Path) -> str:
    # Resolved, because ".." after a symbolic link leads out of the link's target and not back to where it lies.
    relative = os.path.relpath(utterance.audio.resolve(), folder.resolve())
    entry = {
        "audio_filepath": Path(relative).as_posix(),
        "duration": round(duration, _MICROSECOND_DIGITS),
        "text": utterance.text,
    }
    # Escaped beyond ASCII: a text may hold half a surrogate pair, which JSON can say and UTF-8 cannot.
    return json.dumps(entry) + "\n"
