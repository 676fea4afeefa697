"""Which file names are audio."""

from __future__ import annotations

import soundfile

_LIBSNDFILE_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
# It lists formats, not suffixes. Without .raw, because such a file has no header.
_LIBSNDFILE_SUFFIXES |= {".aif", ".mp3", ".oga", ".opus", ".snd", ".sph", ".wave"}
_FFMPEG_SUFFIXES = {
    *(".3gp", ".aac", ".ac3", ".amr", ".avi", ".m4a", ".m4b", ".mka", ".mkv"),
    *(".mov", ".mp4", ".ts", ".webm", ".wma"),
}
AUDIO_SUFFIXES = frozenset(_LIBSNDFILE_SUFFIXES | _FFMPEG_SUFFIXES)
"""Lower case. In folders, other files are skipped; files that are named can have any suffix."""
