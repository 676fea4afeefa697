"""Decode audio files: libsndfile first, as NeMo does, then FFmpeg's libraries for what phones and browsers record."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from nemo_triton.errors import AudioError, one_line

LARGEST_SAMPLES = 2**29
"""Samples in a file, all channels together, and after resampling: 9 hours of mono at 16 kHz, 2 GiB as float32.

A small file can claim more, or become more, than fits in memory.
"""
_LIBSNDFILE_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
# It lists formats, not suffixes. Without .raw, because such a file has no header.
_LIBSNDFILE_SUFFIXES |= {".aif", ".mp3", ".oga", ".opus", ".snd", ".sph", ".wave"}
_FFMPEG_SUFFIXES = {
    *(".3gp", ".aac", ".ac3", ".amr", ".avi", ".m4a", ".m4b", ".mka", ".mkv"),
    *(".mov", ".mp4", ".ts", ".webm", ".wma"),
}
AUDIO_SUFFIXES = frozenset(_LIBSNDFILE_SUFFIXES | _FFMPEG_SUFFIXES)
"""Lower case. In folders, other files are skipped; files that are named can have any suffix."""

_FFMPEG_FIRST = ".opus"
"""NeMo reads files of this suffix by FFmpeg, which decodes them at 48 kHz, and libsndfile at the rate of the source."""
_INT16_SUBTYPES = frozenset({"ALAC_16", "ALAW", "PCM_16", "PCM_S8", "PCM_U8", "ULAW"})
"""Encodings that 16-bit integers represent exactly."""
_DATA_SIZE = re.compile(r"^ *(?:data|riff|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""A line of libsndfile's log: the size of the samples in the header, and their true size. `riff` is that of W64."""
_UNKNOWN_SIZE = 0x7FFF0000
"""Headers of streams, such as those that ffmpeg writes into a pipe, have the largest size instead of the true one."""
_FRAMES_PER_BLOCK = 1024
_OGG_END_BYTES = 2**16
"""An Ogg page is shorter, so the end of a file has the start of its last page."""
_OGG_HEADER_BYTES = 27
_ENDLESS = "it has no end"
_MALFORMED = "malformed"
"""In libsndfile's reason for not reading a file of a format that it knows."""
_CONTAINERS = "3gp,aac,ac3,aiff,amr,amrnb,amrwb,asf,au,avi,caf,eac3,flac,matroska,mov,mp3,mpegts,ogg,rm,wav,w64,webm"
"""FFmpeg's demuxers that may be used. Others, such as playlists, would open other files or addresses."""
_TIMED_CONTAINERS = ("asf", "avi", "flac", "matroska", "mov", "wav")
"""Containers that hold their duration. FFmpeg estimates that of others."""
_MISSING_SECONDS, _MISSING_FRACTION = 0.25, 0.02
"""How much shorter than its container's duration audio may be; both have to be exceeded."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The samples of a file, at its own sample rate.

    Attributes:
        samples: int16 [T, channels] if the file has no more precision; else float32, full scale 1.0.
        rate: Samples per second.
        problem: Reason why there may be fewer samples than were recorded; None if the file seems complete.
    """

    samples: NDArray[np.int16 | np.float32]
    rate: int
    problem: str | None = None


def decode(path: Path) -> Decoded:
    """Decode a file. What is left of a damaged file is decoded, and `problem` says what is missing.

    Args:
        path: The file.

    Raises:
        AudioError: The file can't be decoded, or is too large.
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        if path.suffix == _FFMPEG_FIRST:
            with suppress(AudioError):
                return _decode_by_ffmpeg(file, path, "")
            file.seek(0)
        try:
            decoded = _decode_by_libsndfile(file, path)
        # soundfile raises TypeError for .raw files, which have no header with rate and sample format.
        except (RuntimeError, TypeError) as error:
            file.seek(0)
            reason = one_line(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(".")
            return _decode_by_ffmpeg(file, path, reason)
        if len(decoded.samples):
            return decoded
        # A recorder that died has not written the number of samples into the header.
        file.seek(0)
        return _after_empty_header(file, path) or decoded


def _decode_by_libsndfile(file: BinaryIO, path: Path) -> Decoded:
    with soundfile.SoundFile(file) as sound:
        # The number in the header decides how much memory is allocated. Streams, such as ffmpeg's FLAC, have none.
        if sound.frames * sound.channels > LARGEST_SAMPLES:
            if path.stat().st_size > LARGEST_SAMPLES:
                raise _too_large(path)
            raise RuntimeError("a wrong number of samples in its header")
        rate, log = int(sound.samplerate), str(sound.extra_info)
        dtype = "int16" if sound.subtype in _INT16_SUBTYPES else "float32"
        expected = int(sound.frames)
        problem: str | None = None
        try:
            # Files that can't be sought, such as GSM 6.10, are not read without their number of samples.
            samples = sound.read(expected, dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            samples, problem = None, f"it is damaged ({one_line(error.error_string) or 'decoding failed'})"
        else:
            problem = _what_is_missing(log, expected, len(samples), rate)
        is_ogg = sound.format == "OGG"
    if samples is None:
        file.seek(0)
        samples = _read_until_damage(file, dtype)
    if problem is None and is_ogg and not _ogg_ends(file):
        problem = _ENDLESS
    return Decoded(samples=samples, rate=rate, problem=problem)


def _what_is_missing(log: str, expected: int, read: int, rate: int) -> str | None:
    sizes = _DATA_SIZE.search(log)
    if sizes and int(sizes[2]) < int(sizes[1]) < _UNKNOWN_SIZE:
        return f"its header says {int(sizes[1]):,} bytes of samples, but there are {int(sizes[2]):,}"
    if read < expected:
        return f"its header says {expected / rate:.1f} s"
    return None


def _read_until_damage(file: BinaryIO, dtype: str) -> NDArray[np.int16 | np.float32]:
    """Read in small blocks: libsndfile drops a whole block if it fails in it."""
    blocks = []
    with soundfile.SoundFile(file) as sound:
        try:
            while len(block := sound.read(_FRAMES_PER_BLOCK, dtype=dtype, always_2d=True)):
                blocks.append(block)
        except soundfile.LibsndfileError:
            if not blocks:
                raise
    samples: NDArray[np.int16 | np.float32] = np.concatenate(blocks)
    return samples


def _ogg_ends(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file is complete and marked as the end of its stream.

    Source: RFC 3533, section 6: the third flag of a page's header type, and the sizes of its segments.
    """
    size = file.seek(0, 2)
    file.seek(max(size - _OGG_END_BYTES, 0))
    end = file.read()
    page = end[end.rfind(b"OggS") :]
    if not page.startswith(b"OggS") or len(page) <= _OGG_HEADER_BYTES:
        return False
    segments = page[_OGG_HEADER_BYTES - 1]
    sizes = page[_OGG_HEADER_BYTES : _OGG_HEADER_BYTES + segments]
    complete = len(sizes) == segments and len(page) >= _OGG_HEADER_BYTES + segments + sum(sizes)
    return complete and bool(page[5] & 4)


def _after_empty_header(file: BinaryIO, path: Path) -> Decoded | None:
    """The samples after a header that says there are none; None if there are none."""
    try:
        decoded = _decode_by_ffmpeg(file, path, "")
    except AudioError:
        return None
    if not len(decoded.samples):
        return None
    return Decoded(samples=decoded.samples, rate=decoded.rate, problem="its header says 0 s")


def _decode_by_ffmpeg(file: BinaryIO, path: Path, libsndfile_reason: str) -> Decoded:
    """Decode the first audio stream, as float32.

    Args:
        file: The open file, at its start.
        path: Its path, for errors.
        libsndfile_reason: Why libsndfile can't read it.
    """
    try:
        import av
    except ImportError:
        raise AudioError(
            f"{path}: not readable as audio ({libsndfile_reason}); convert it to WAV or FLAC, or install the package av"
        ) from None
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    blocks: list[NDArray[np.float32]] = []
    problem = None
    try:
        with av.open(file, "r", options=options) as container:
            if not container.streams.audio:
                types = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream"
                raise AudioError(f"{path}: has no audio (only {types}); give another file")
            stream = container.streams.audio[0]
            rate, count = 0, 0
            resampler = None
            try:
                for frame in container.decode(stream):
                    if resampler is None:
                        rate, layout = frame.sample_rate, frame.layout
                        # Changes the sample format only.
                        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
                    for planes in resampler.resample(frame):
                        blocks.append(np.asarray(planes.to_ndarray().T, np.float32))
                        count += blocks[-1].size
                    if count > LARGEST_SAMPLES:
                        raise _too_large(path)
            except av.FFmpegError as error:
                if not blocks:
                    raise
                problem = f"it is damaged ({one_line(error.strerror)})"
            is_ogg = container.format.name == "ogg"
            duration = (container.duration or 0) / av.time_base if _is_timed(container.format.name) else 0.0
    # A container without frames, or one whose parameters no decoder takes, raises other errors.
    except (av.FFmpegError, ValueError, RuntimeError, IndexError, OverflowError) as error:
        reason = libsndfile_reason or one_line(getattr(error, "strerror", None) or error)
        raise AudioError(f"{path}: not readable as audio ({reason}); convert it to WAV or FLAC") from error
    if not blocks:
        raise AudioError(f"{path}: not readable as audio (no samples in it); record or copy it again")
    samples = np.concatenate(blocks)
    missing = duration - len(samples) / rate
    if problem is None and missing > max(_MISSING_SECONDS, _MISSING_FRACTION * duration):
        problem = f"its header says {duration:.1f} s"
    if problem is None and _MALFORMED in libsndfile_reason:
        problem = "it is damaged"
    if problem is None and is_ogg and not _ogg_ends(file):
        problem = _ENDLESS
    return Decoded(samples=samples, rate=rate, problem=problem)


def _is_timed(format_name: str) -> bool:
    return any(name in _TIMED_CONTAINERS for name in format_name.split(","))


def _too_large(path: Path) -> AudioError:
    return AudioError(f"{path}: has more than {LARGEST_SAMPLES:,} samples; split it")
