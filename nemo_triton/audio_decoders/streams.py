"""Choose one of a file's audio streams, such as the languages of a film."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_LANGUAGE_CHARACTERS = 12
"""Enough for codes such as "deu" and "zh-Hant-TW". A damaged or malicious file can have any text."""


def streams_by_preference(container: InputContainer) -> list[AudioStream]:
    """The audio streams that can be decoded; the first with samples is that of the program ffmpeg.

    NeMo reads these files by that program. By default it decodes a stream with samples that the file marks as default,
    of these one with the most channels, and of these the first. Streams that FFmpeg has no decoder for are left out;
    the program would fail.

    Source: map_auto_audio in fftools/ffmpeg_mux_init.c of FFmpeg 8.

    Args:
        container: A file with at least one audio stream.

    Raises:
        ValueError: FFmpeg has no decoder for any.
    """
    from av.stream import Disposition

    streams = container.streams.audio
    # A file can name a codec that doesn't exist.
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise ValueError("FFmpeg has no decoder for it")
    return sorted(
        decodable,
        key=lambda stream: (bool(stream.disposition & Disposition.default), stream.channels),
        reverse=True,
    )


def note_about(chosen: AudioStream, container: InputContainer) -> str | None:
    """A line that says which of the streams was chosen; None if there is no other."""
    streams = container.streams.audio
    if len(streams) == 1:
        return None
    kind = ", ".join([chosen.codec_context.name, chosen.layout.name, *_language(chosen)])
    note = f"has {len(streams)} audio streams; number {streams.index(chosen) + 1} ({kind}) is used"
    without = [str(number) for number, stream in enumerate(streams, 1) if stream.codec_context is None]
    if without:
        note += f", because FFmpeg has no decoder for number {', '.join(without)}"
    return note


def _language(stream: AudioStream) -> list[str]:
    language = stream.metadata.get("language", "und")
    return [] if language == "und" else [language[:_LANGUAGE_CHARACTERS]]
