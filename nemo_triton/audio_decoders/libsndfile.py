"""Decode files with libsndfile."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from nemo_triton.audio_decoders import headers, limits, ogg
from nemo_triton.audio_decoders.decoded import Decoded, Header
from nemo_triton.audio_decoders.segment import Segment
from nemo_triton.errors import one_line

_INT16_SUBTYPES = frozenset({"ALAC_16", "ALAW", "PCM_16", "PCM_S8", "PCM_U8", "ULAW"})
"""Encodings that 16-bit integers represent exactly."""
_FRAMES_PER_BLOCK = 1024
_FRAMES_PER_SKIP = 2**16
_BYTES_PER_READ = 2**20
_NOT_REGULAR = "not a regular file"
"""In libsndfile's reason for not reading an MP3 whose first frame is incomplete. Only regular files are opened."""


def decode_by_libsndfile(file: FileIO, path: Path) -> Decoded:
    """Decode a file with libsndfile.

    Args:
        file: The open file, unbuffered, at its start.
        path: Its path, for errors.

    Raises:
        RuntimeError: libsndfile can't read it.
        TypeError: The file is named .raw: it has no header with rate and sample format.
        AudioError: The file is too large.
        OSError: A part of the file can't be read.
    """
    with _open_by_libsndfile(file) as sound:
        # The number in the header decides how much memory is allocated. Streams, such as ffmpeg's FLAC, have none.
        if sound.frames * sound.channels > limits.LARGEST_SAMPLES:
            if path.stat().st_size > limits.LARGEST_SAMPLES:
                raise limits.too_large(path)
            raise RuntimeError("a wrong number of samples in its header")
        rate, log = int(sound.samplerate), str(sound.extra_info)
        dtype = _dtype_of(sound)
        expected = int(sound.frames)
        problem: str | None = None
        try:
            # Files that can't be sought, such as GSM 6.10, are not read without their number of samples.
            samples = sound.read(expected, dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            samples, problem = None, f"it is damaged ({reason_of(error) or 'decoding failed'})"
        is_ogg, is_mp3 = sound.format == "OGG", sound.format == "MP3"
    if samples is None:
        file.seek(0)
        samples = _read_until_damage(file, dtype)
    # libsndfile takes an unreadable part of the disk for damage, and in an MP3 for its end.
    if problem is not None or is_mp3:
        _raise_if_unreadable(file)
    if problem is None:
        problem = headers.missing_samples(file, log, len(samples))
    if problem is None and limits.is_short(len(samples) / rate, of=expected / rate):
        problem = f"its header says {expected / rate:.1f} s"
    if problem is None and is_ogg and not ogg.ends(file):
        problem = ogg.ENDLESS
    return Decoded(samples=samples, rate=rate, problem=problem)


def read_segment(file: FileIO, segment: Segment) -> Decoded | None:
    """Decode a segment without the rest of the file.

    Args:
        file: The open file, unbuffered, at its start.
        segment: The part to decode.

    Returns:
        The samples of the segment; None if it is not completely in the file, or too large.

    Raises:
        RuntimeError: libsndfile can't read the file.
        TypeError: The file is named .raw.
    """
    with _open_by_libsndfile(file) as sound:
        rate, frames = int(sound.samplerate), int(sound.frames)
        start = segment.start(rate)
        count = (segment.stop(rate) if segment.duration else frames) - start
        if not (0 < count <= frames - start and count * sound.channels <= limits.LARGEST_SAMPLES):
            return None
        dtype = _dtype_of(sound)
        if not sound.seekable():
            # GSM 6.10 and some ADPCM.
            for position in range(0, start, _FRAMES_PER_SKIP):
                sound.read(min(_FRAMES_PER_SKIP, start - position), dtype=dtype)
        elif start:
            # Not to 0: NeMo doesn't either, and it would change the last bits of an MP3's samples.
            sound.seek(start)
        samples = sound.read(count, dtype=dtype, always_2d=True)
    return Decoded(samples=samples, rate=rate) if len(samples) == count else None


def header_by_libsndfile(file: FileIO) -> Header:
    """Read the header of a file.

    Args:
        file: The open file, unbuffered, at its start.

    Raises:
        RuntimeError: libsndfile can't read it.
        TypeError: The file is named .raw.
    """
    with _open_by_libsndfile(file) as sound:
        is_16_bit = sound.subtype in _INT16_SUBTYPES
        return Header(rate=int(sound.samplerate), channels=int(sound.channels), is_16_bit=is_16_bit)


def _dtype_of(sound: soundfile.SoundFile) -> str:
    return "int16" if sound.subtype in _INT16_SUBTYPES else "float32"


def reason_of(error: Exception) -> str:
    """Libsndfile's reason, as part of a line."""
    reason = one_line(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(".")
    return "cut off in its header" if _NOT_REGULAR in reason else reason


def _open_by_libsndfile(file: FileIO) -> soundfile.SoundFile:
    # By descriptor: with a Python file, each seek beyond the ends of a damaged file prints a traceback.
    return soundfile.SoundFile(file.fileno(), closefd=False)


def _raise_if_unreadable(file: FileIO) -> None:
    file.seek(0)
    while file.read(_BYTES_PER_READ):
        pass


def _read_until_damage(file: FileIO, dtype: str) -> NDArray[np.int16 | np.float32]:
    """Read in small blocks: libsndfile drops a whole block if it fails in it."""
    blocks = []
    with _open_by_libsndfile(file) as sound:
        try:
            while len(block := sound.read(_FRAMES_PER_BLOCK, dtype=dtype, always_2d=True)):
                blocks.append(block)
        except soundfile.LibsndfileError:
            if not blocks:
                raise
    samples: NDArray[np.int16 | np.float32] = np.concatenate(blocks)
    return samples
