"""How FFmpeg reads a file: confined to its audio, and without tracebacks."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from io import FileIO

_CONTAINERS = (
    "3gp,aac,ac3,aiff,amr,amrnb,amrwb,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,mxf,ogg,rm,wav,w64,webm"
)
"""FFmpeg's demuxers that may be used. Others, such as playlists, would open other files or addresses."""


@cache
def confining_options() -> dict[str, str]:
    """Options for `av.open` that keep FFmpeg from what a recording doesn't need: files, addresses and pictures."""
    return {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none", "codec_whitelist": ",".join(_audio_codecs())}


def _audio_codecs() -> list[str]:
    """All decoders of audio. When FFmpeg opens a file, it would decode its first pictures and subtitles, too."""
    import av

    codecs = []
    for name in sorted(av.codecs_available):
        # Some have an encoder only.
        with suppress(ValueError):
            codecs.append(av.Codec(name, "r"))
    return [codec.name for codec in codecs if codec.type == "audio"]


class QuietFile:
    """A file for PyAV, which prints a traceback for each exception that a file raises.

    A place outside the file, which FFmpeg seeks in a damaged file, becomes an error code, and an unreadable part of the
    disk becomes the end of the file.

    Attributes:
        file: The open file.
        name: Its path, for PyAV.
    """

    def __init__(self, file: FileIO) -> None:
        self.file = file
        self.name = str(file.name)
        self._read_error: OSError | None = None

    def read(self, size: int) -> bytes:
        try:
            return self.file.read(size)
        except OSError as error:
            self._read_error = error
            return b""

    def seek(self, place: int, whence: int = 0) -> int:
        try:
            return self.file.seek(place, whence)
        except OSError as error:
            return -(error.errno or 1)

    def tell(self) -> int:
        return self.file.tell()

    def raise_read_error(self) -> None:
        """Raise the last error of the disk, if there was any."""
        if self._read_error is not None:
            raise self._read_error
