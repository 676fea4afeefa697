"""Choose one of a file's audio streams, such as the languages of a film."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_LANGUAGE_CHARACTERS = 12
"""Enough for codes such as "deu" and "zh-Hant-TW". A damaged or malicious file can have any text."""


def choose_stream(container: InputContainer) -> tuple[AudioStream, str | None]:
    """Choose the audio stream that the program ffmpeg, by which NeMo reads these files, decodes by default.

    That is a stream that the file marks as default, of these one with the most channels, and of these the first.
    Streams that FFmpeg has no decoder for are left out; the program would fail.

    Source: map_auto_audio in fftools/ffmpeg_mux_init.c of FFmpeg 8.

    Args:
        container: A file with at least one audio stream.

    Returns:
        The stream, and a line that says which one it is; None if the file has no other.

    Raises:
        ValueError: FFmpeg has no decoder for any.
    """
    from av.stream import Disposition

    streams = container.streams.audio
    # A file can name a codec that doesn't exist.
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise ValueError("FFmpeg has no decoder for it")
    chosen = max(decodable, key=lambda stream: (bool(stream.disposition & Disposition.default), stream.channels))
    if len(streams) == 1:
        return chosen, None
    kind = ", ".join([chosen.codec_context.name, chosen.layout.name, *_language(chosen)])
    note = f"has {len(streams)} audio streams; number {streams.index(chosen) + 1} ({kind}) is used"
    if len(decodable) < len(streams):
        without = ", ".join(str(number) for number, stream in enumerate(streams, 1) if stream not in decodable)
        note += f", because FFmpeg has no decoder for number {without}"
    return chosen, note


def _language(stream: AudioStream) -> list[str]:
    language = stream.metadata.get("language", "und")
    return [] if language == "und" else [language[:_LANGUAGE_CHARACTERS]]
