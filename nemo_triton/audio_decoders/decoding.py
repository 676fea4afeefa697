"""Choose the decoder of a file."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from io import FileIO
from pathlib import Path

from nemo_triton.audio_decoders import limits
from nemo_triton.audio_decoders.decoded import Decoded, Header
from nemo_triton.audio_decoders.ffmpeg import decode_by_ffmpeg
from nemo_triton.audio_decoders.libsndfile import decode_by_libsndfile, header_by_libsndfile, read_segment, reason_of
from nemo_triton.audio_decoders.segment import WHOLE, Segment
from nemo_triton.audio_decoders.suffixes import AUDIO_SUFFIXES
from nemo_triton.audio_decoders.text_files import holds_text
from nemo_triton.errors import AudioError

_FFMPEG_FIRST = ".opus"
"""NeMo reads files of this suffix by FFmpeg, which decodes them at 48 kHz, and libsndfile at the rate of the source."""


def decode(path: Path, segment: Segment = WHOLE) -> Decoded:
    """Decode a file. What is left of a damaged file is decoded, and `problem` says what is missing.

    Args:
        path: The file.
        segment: The part that is needed. Where the decoder allows it, what is before and after it is dropped.

    Raises:
        AudioError: The file can't be decoded, or is too large.
        OSError: The file can't be read.
    """
    # Unbuffered, because libsndfile gets the descriptor, and has to begin at the place that `seek` sets.
    with path.open("rb", buffering=0) as file:
        if path.suffix == _FFMPEG_FIRST:
            with suppress(AudioError):
                return decode_by_ffmpeg(file, path, segment=segment)
            file.seek(0)
        try:
            decoded = decode_by_libsndfile(file, path)
        # soundfile raises TypeError for .raw files, which have no header with rate and sample format.
        except (RuntimeError, TypeError) as error:
            file.seek(0)
            return _decode_or_recognize_text(file, path, reason_of(error), segment)
        if len(decoded.samples) and decoded.problem is None:
            return decoded
        file.seek(0)
        # A recorder that died has not written the number of samples into the header, and FFmpeg goes on after a damage.
        # It decodes the whole file, even for a segment: lengths are compared.
        return _longer(decoded, _if_readable(file, path))


def _decode_or_recognize_text(file: FileIO, path: Path, libsndfile_reason: str, segment: Segment) -> Decoded:
    """Decode by FFmpeg; if that fails because the file holds text, the error says so."""
    try:
        return decode_by_ffmpeg(file, path, libsndfile_reason=libsndfile_reason, segment=segment)
    except AudioError as error:
        if not holds_text(file):
            raise
        advice = "to use it as a manifest, name it .jsonl, .json, .csv or .tsv"
        if path.suffix.lower() in AUDIO_SUFFIXES:
            advice = "record or copy it again"
        raise AudioError(f"{path}: not readable as audio (it holds text); {advice}") from error


def decode_segment(path: Path, segment: Segment) -> Decoded | None:
    """Decode a segment without the rest of its file, if that is possible.

    Args:
        path: The file.
        segment: The part to decode.

    Returns:
        The samples of the segment; None if it is not completely in the file, or if libsndfile can't decode it.

    Raises:
        OSError: The file can't be read.
    """
    if path.suffix == _FFMPEG_FIRST:
        return None
    with path.open("rb", buffering=0) as file, suppress(RuntimeError, TypeError):
        return read_segment(file, segment)
    return None


def read_header(path: Path) -> Header | None:
    """Read the header of a file; None if FFmpeg has to decode it.

    Raises:
        OSError: The file can't be read.
    """
    if path.suffix == _FFMPEG_FIRST:
        return None
    with path.open("rb", buffering=0) as file, suppress(RuntimeError, TypeError):
        return header_by_libsndfile(file)
    return None


def _if_readable(file: FileIO, path: Path) -> Decoded | None:
    try:
        return decode_by_ffmpeg(file, path)
    except AudioError:
        return None


def _longer(decoded: Decoded, by_ffmpeg: Decoded | None) -> Decoded:
    """The result with more audio; a damaged or empty one keeps its problem."""
    length = len(decoded.samples) / decoded.rate
    if by_ffmpeg is None or not limits.is_short(length, of=len(by_ffmpeg.samples) / by_ffmpeg.rate):
        return decoded
    problem = by_ffmpeg.problem or decoded.problem or f"its header says {length:.0f} s"
    return replace(by_ffmpeg, problem=problem)
