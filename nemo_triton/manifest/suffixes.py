"""Which file names are recordings, and which are manifests."""

from __future__ import annotations

import soundfile

_PLAIN_MANIFESTS = (".json", ".jsonl", ".csv", ".tsv")

KALDI_SUFFIX = ".scp"
"""Of Kaldi's lists of recordings."""

MANIFEST_SUFFIXES = (*_PLAIN_MANIFESTS, *(f"{suffix}.gz" for suffix in _PLAIN_MANIFESTS), KALDI_SUFFIX)
"""Lower case. `is_manifest` applies them: `Path.suffix` is only the last part of .jsonl.gz."""

# libsndfile lists formats, not file suffixes. RAW is excluded: such a file has no header.
_LIBSNDFILE = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
_LIBSNDFILE |= {".mp3", ".oga", ".opus", ".aif", ".wave", ".snd", ".sph"}

# What phones, browsers and cameras record, which FFmpeg decodes.
_FFMPEG = {
    *(".3gp", ".aac", ".ac3", ".amr", ".avi", ".m4a", ".m4b", ".mka", ".mkv"),
    *(".mov", ".mp4", ".oga", ".opus", ".ts", ".webm", ".wma"),
}

AUDIO_SUFFIXES = frozenset(_LIBSNDFILE | _FFMPEG)
"""Lower case. Other files in a folder are skipped."""
