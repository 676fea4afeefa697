"""The one form of every data set that is measured: a NeMo manifest, and a description by which it is known again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

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


@dataclass
class Written:
    """What became of a data set: its description, whether anything on disk changed, a line for each entry left out."""

    description: Description
    changed: bool
    problems: list[str] = field(default_factory=list)


def write_dataset(
    folder: Path,
    name: str,
    source: str,
    licence: str | None,
    utterances: list[Utterance],
    measured: Callable[[], None] = lambda: None,
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
    files: list[Path] = []
    lines: list[str] = []
    total = 0.0
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
            total += duration
            files.append(utterance.audio)
            lines.append(_line(utterance, duration, folder))
        measured()
    if not lines:
        first = problems[0] if problems else f"{source}: there is no utterance"
        raise ManifestError(f"{first} (and no other utterance of {name} can be used)")
    manifest = folder / MANIFEST
    # Compared as bytes: the digest is of these, and no system's line ends shall change it.
    content = "".join(lines).encode()
    changed = not manifest.is_file() or manifest.read_bytes() != content
    if changed:
        manifest.write_bytes(content)
    description = Description(
        name=name,
        source=source,
        licence=licence,
        utterances=len(lines),
        seconds=round(total, _MICROSECOND_DIGITS),
        manifest_sha256=digest([manifest]),
        audio_sha256=digest(files),
    )
    if read_description(folder) != description:
        changed = True
        (folder / DESCRIPTION).write_text(json.dumps(asdict(description), indent=2) + "\n", encoding="utf-8")
    return Written(description, changed, problems)


def read_description(folder: Path) -> Description | None:
    """The description in `folder`; None where there is none that can be used."""
    try:
        return Description(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


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
