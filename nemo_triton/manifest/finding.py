"""Find the recordings in audio files, folders and manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath

from nemo_triton.errors import ManifestError, printable
from nemo_triton.manifest.folders import (
    FolderContents,
    is_file,
    is_folder,
    kinds,
    left_out,
    list_folder,
    skipped_files,
    unlisted_audio,
)
from nemo_triton.manifest.kaldi import WAV_LIST
from nemo_triton.manifest.librispeech import is_librispeech, read_transcripts
from nemo_triton.manifest.lookup import check_no_address
from nemo_triton.manifest.reading import read_manifest
from nemo_triton.manifest.suffixes import MANIFEST_SUFFIXES
from nemo_triton.manifest.utterance import Manifest, Utterance


def find_audio(paths: str | Path | Iterable[str | Path], *, keep_fields: bool = False) -> Manifest:
    """List the recordings in audio files, folders and manifests. Audio files are not decoded.

    Args:
        paths: Audio files, folders (searched recursively) and manifests (.json, .jsonl, .ndjson, .jsonlines, .csv and
            .tsv, each also with .gz, and Kaldi's wav.scp), or a single one of these.
        keep_fields: Keep fields of manifests that are not used here, such as a speaker, as `other_fields`.

    Returns:
        The utterances in the order of `paths`. Those of a folder are all its recordings, sorted by path; those that
        LibriSpeech's *.trans.txt name have their texts. A folder of Kaldi, and one of LibriSpeech with no other
        recordings, is read as `read_manifest` reads it. A folder without audio and an unreadable manifest become
        problems; other files in a folder, hidden recordings and linked folders are counted in notes.

    Example:
        >>> find_audio(["recordings", "order.wav"]).utterances[-1].name
        'order.wav'
    """
    listed = Manifest()
    for path in [paths] if isinstance(paths, str | PurePath) else paths:
        try:
            manifest = _find(path, keep_fields)
        except ManifestError as error:
            listed.problems.append(str(error))
        else:
            listed.utterances += manifest.utterances
            listed.problems += manifest.problems
            listed.notes += manifest.notes
            listed.sources += manifest.sources
    return listed


def is_manifest(path: Path) -> bool:
    """Whether a path has the name of a manifest rather than of an audio file."""
    return path.name.lower().endswith(MANIFEST_SUFFIXES)


def _find(path: str | Path, keep_fields: bool) -> Manifest:
    if is_folder(Path(path)):
        return _find_in_folder(Path(path))
    try:
        check_no_address(str(path))
    except ValueError as error:
        raise ManifestError(str(error)) from error
    path = Path(path)
    return read_manifest(path, keep_fields=keep_fields) if is_manifest(path) else Manifest([Utterance(path)])


def _find_in_folder(folder: Path) -> Manifest:
    if is_file(folder / WAV_LIST):
        return read_manifest(folder)
    contents = list_folder(folder)
    transcripts = _transcripts(contents)
    unlisted = unlisted_audio(contents.audio, (utterance.audio for utterance in transcripts.utterances))
    utterances = [*transcripts.utterances, *map(Utterance, unlisted)]
    if unlisted:
        # Otherwise the order of the transcripts is kept, as in read_manifest.
        utterances.sort(key=lambda utterance: utterance.audio)
    manifest = Manifest(utterances, [*contents.problems, *transcripts.problems], sources=transcripts.sources)
    if not utterances:
        skipped = f" (skipped: {kinds(contents.skipped)})" if contents.skipped else ""
        problem = f"{folder}: no audio file in this folder; give a folder with e.g. .wav or .flac files{skipped}"
        manifest.problems.append(printable(problem))
    elif contents.skipped and unlisted:
        # Not for a tree that is LibriSpeech's only: it has files about speakers and licences.
        manifest.notes.append(printable(f"{folder}: {skipped_files(contents.skipped)}"))
    manifest.notes += [printable(f"{folder}: {message}") for message in left_out(contents)]
    return manifest


def _transcripts(contents: FolderContents) -> Manifest:
    """The recordings that LibriSpeech's transcripts name; other texts are counted as skipped."""
    manifest = read_transcripts(contents)
    if is_librispeech(manifest, contents):
        return manifest
    contents.skipped += Counter(file.suffix for file in contents.transcripts)
    return Manifest()
