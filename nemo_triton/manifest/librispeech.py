"""LibriSpeech's tree: folders with flac files and a transcript file with one line per utterance.

Source: Panayotov et al., ICASSP 2015.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nemo_triton.errors import ManifestError, one_line, printable
from nemo_triton.manifest.decoding import read_text
from nemo_triton.manifest.folders import TRANSCRIPTS_SUFFIX, FolderContents, count_unlisted, left_out
from nemo_triton.manifest.utterance import Manifest, Utterance

_AUDIO_SUFFIX = ".flac"


def read_librispeech(folder: Path, contents: FolderContents, text_required: bool = False) -> Manifest:
    """Read a folder of the tree as a manifest: recordings that no transcript names are counted in a note.

    Args:
        folder: The folder.
        contents: Its contents, from `list_folder`.
        text_required: Report utterances without text as problems.

    Returns:
        See `read_transcripts`, with problems and notes of the folder.
    """
    manifest = read_transcripts(contents, text_required)
    listed = (utterance.audio for utterance in manifest.utterances)
    for note in [*count_unlisted(contents.audio, listed, f"a *{TRANSCRIPTS_SUFFIX}"), *left_out(contents)]:
        manifest.notes.append(printable(f"{folder}: {note}"))
    return replace(manifest, problems=[*contents.problems, *manifest.problems])


def read_transcripts(contents: FolderContents, text_required: bool = False) -> Manifest:
    """Read all transcripts in a folder and in the folders in it.

    Args:
        contents: Its contents, from `list_folder`.
        text_required: Report utterances without text as problems.

    Returns:
        The utterances sorted by transcript file, texts in lower case as NeMo's script for LibriSpeech writes them.
        Whether their audio exists is not checked. Without a transcript file there are no utterances.
    """
    # Recordings that were converted from flac to another format.
    converted = {path.with_suffix(""): path for path in contents.audio if path.suffix != _AUDIO_SUFFIX}
    manifest = Manifest(sources=list(contents.transcripts))
    for file in contents.transcripts:
        try:
            lines = read_text(file).split("\n")
        except ManifestError as error:
            manifest.problems.append(str(error))
            continue
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                manifest.utterances.append(_utterance(line, number, file, converted, text_required))
            except (ValueError, OSError) as error:
                manifest.problems.append(printable(f"{file}:{number}: {one_line(error)}"))
    return manifest


def is_librispeech(manifest: Manifest, contents: FolderContents) -> bool:
    """Whether a folder's transcripts are LibriSpeech's; if not, they are texts of another kind with the same suffix.

    True if they name a recording of the folder. A folder without recordings may get them later, and without utterances
    the manifest's problems say more.
    """
    listed = {utterance.audio for utterance in manifest.utterances}
    return not contents.audio or not listed or not listed.isdisjoint(contents.audio)


def _utterance(line: str, number: int, file: Path, converted: dict[Path, Path], text_required: bool) -> Utterance:
    name, *text = line.split(maxsplit=1)
    if text_required and not text:
        raise ValueError("no text after the name of the utterance; skipped")
    # with_name raises ValueError for a name with a slash.
    flac = file.with_name(f"{name}{_AUDIO_SUFFIX}")
    other = converted.get(file.with_name(name))
    audio = flac if other is None or flac.is_file() else other
    return Utterance(audio, text[0].strip().lower() if text else None, line=number, source=file)
