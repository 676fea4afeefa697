"""Which file names are audio."""

from __future__ import annotations

import soundfile

from nemo_triton.audio_decoders.transport_stream import TRANSPORT_STREAM_SUFFIXES

_LIBSNDFILE_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
# It lists formats, not suffixes. Without .raw, because such a file has no header.
_LIBSNDFILE_SUFFIXES |= {".aif", ".aifc", ".mp2", ".mp3", ".oga", ".opus", ".snd", ".sph", ".wave"}
_FFMPEG_SUFFIXES = {
    *(".3g2", ".3gp", ".3gpp", ".aac", ".ac3", ".amr", ".asf", ".avi", ".awb", ".eac3", ".flv"),
    *(".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mxf"),
    *(".ogv", ".spx", ".vob", ".webm", ".wma", ".wmv"),
    *TRANSPORT_STREAM_SUFFIXES,
}
AUDIO_SUFFIXES = frozenset(_LIBSNDFILE_SUFFIXES | _FFMPEG_SUFFIXES)
"""Lower case. In folders, other files are skipped, and those of TRANSPORT_STREAM_SUFFIXES that hold something else.

Files that are named can have any suffix.
"""
