"""Decode files with FFmpeg's libraries, in the package av."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nemo_triton.audio_decoders import limits, ogg
from nemo_triton.audio_decoders.decoded import Decoded
from nemo_triton.audio_decoders.ffmpeg_input import QuietFile, confining_options
from nemo_triton.audio_decoders.segment import WHOLE, Segment
from nemo_triton.audio_decoders.streams import note_about, streams_by_preference
from nemo_triton.errors import AudioError, one_line

if TYPE_CHECKING:
    from av import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_ROUNDED_CODECS = ("aac", "mp3", "mp3float")
"""Codecs whose samples NeMo's reader (pydub) rounds to 16 bits. It rounds those of others to 32 bits."""
_MALFORMED = "malformed"
"""In libsndfile's reason for not reading a file of a format that it knows."""
_TIMED_CONTAINERS = ("asf", "avi", "flac", "flv", "matroska", "mov", "mxf", "wav")
"""Containers that hold their duration and the times of frames. FFmpeg estimates those of others."""


class _NoSamplesError(AudioError):
    """A stream has no samples."""


def decode_by_ffmpeg(file: FileIO, path: Path, *, libsndfile_reason: str = "", segment: Segment = WHOLE) -> Decoded:
    """Decode an audio stream from its start to the end of a segment.

    FFmpeg can't seek to an exact sample in many formats, so what is before the segment is decoded and dropped. If audio
    is missing there, the segment is from a later place, which `problem` says. Damage after it is not noticed.

    Args:
        file: The open file, at its start.
        path: Its path, for errors.
        libsndfile_reason: Why libsndfile can't read it; empty if it was not tried, or can.
        segment: The part to keep, and up to a frame more on both sides.

    Raises:
        AudioError: The file can't be decoded, or the segment is too large.
        OSError: A part of the file can't be read.
    """
    source = QuietFile(file)
    try:
        decoded = _decode_file(source, path, libsndfile_reason, segment)
    except AudioError:
        source.raise_read_error()
        raise
    source.raise_read_error()
    return decoded


def _decode_file(source: QuietFile, path: Path, libsndfile_reason: str, segment: Segment) -> Decoded:
    try:
        import av
    except ImportError:
        raise AudioError(
            f"{path}: not readable as audio ({libsndfile_reason}); convert it to WAV or FLAC, or install the package av"
        ) from None
    try:
        with av.open(source, "r", options=confining_options()) as container:
            if not container.streams.audio:
                types = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream"
                raise AudioError(f"{path}: has no audio (only {types}); give another file")
            decoded, stream = _decode_preferred(container, path, segment)
            note = note_about(stream, container)
            name = container.format.name
            declared = _declared_seconds(container, stream)
    # A container without frames, or one whose parameters no decoder takes, raises other errors.
    except (av.FFmpegError, ValueError, RuntimeError, IndexError, OverflowError) as error:
        reason = libsndfile_reason or one_line(getattr(error, "strerror", None) or error)
        raise AudioError(f"{path}: not readable as audio ({reason}); convert it to WAV or FLAC") from error
    problem = decoded.problem
    reached_end = decoded.end < segment.stop(decoded.rate)
    if problem is None and reached_end and limits.is_short(decoded.end / decoded.rate, of=declared):
        problem = f"its header says {declared:.1f} s"
    if problem is None and _MALFORMED in libsndfile_reason:
        problem = "it is damaged"
    if problem is None and reached_end and name == "ogg" and not ogg.ends(source.file):
        problem = ogg.ENDLESS
    return replace(decoded, problem=problem, note=note)


def _decode_preferred(container: InputContainer, path: Path, segment: Segment) -> tuple[Decoded, AudioStream]:
    """Decode the first stream by preference that has samples."""
    import av

    *preferred, last = streams_by_preference(container)
    for stream in preferred:
        try:
            return _decode_audio(container, stream, path, segment), stream
        except (_NoSamplesError, av.FFmpegError):
            container.seek(0)
    return _decode_audio(container, last, path, segment), last


def _decode_audio(container: InputContainer, stream: AudioStream, path: Path, segment: Segment) -> Decoded:
    """Decode up to the segment's end, or to a change of the stream's sample rate or channels."""
    import av

    is_timed = _has_times(container)
    first_time, gap = None, None
    blocks: list[NDArray[np.int16 | np.float32]] = []
    damages: list[str] = []
    end, skipped, count, rate, layout, resampler, problem = 0, 0, 0, 0, "", None, None
    try:
        for frame in _frames(container, stream, damages):
            if resampler is None:
                rate, layout = frame.sample_rate, frame.layout.name
                is_16_bit = stream.codec_context.name in _ROUNDED_CODECS or frame.format.name in ("s16", "s16p")
                # Changes the sample format only. Not to a planar one: PyAV crashes on those of 8 channels and more.
                resampler = av.AudioResampler("s16" if is_16_bit else "s32", frame.layout, rate)
            if (frame.sample_rate, frame.layout.name) != (rate, layout):
                problem = "its sample rate or channels change"
                break
            if is_timed and frame.time is not None and gap is None:
                first_time = frame.time if first_time is None else first_time
                if limits.is_short(end / rate, of=frame.time - first_time):
                    missing = frame.time - first_time - end / rate
                    gap = f"it has a gap of {missing:.1f} s at {end / rate:.1f} s, and later times leave it out"
            end += frame.samples
            if end <= segment.start(rate):
                skipped = end
                continue
            for packed in resampler.resample(frame):
                blocks.append(_scaled(packed.to_ndarray().reshape(packed.samples, -1)))
                count += blocks[-1].size
            if count > limits.LARGEST_SAMPLES:
                raise limits.too_large(path)
            if end >= segment.stop(rate):
                break
    except av.FFmpegError as error:
        if not end:
            raise
        damages.append(one_line(error.strerror))
    if not end:
        reason = damages[0] if damages else "no samples in it"
        raise _NoSamplesError(f"{path}: not readable as audio ({reason}); record or copy it again")
    if problem is None and damages:
        problem = f"it is damaged ({damages[0]})"
    problem = problem or gap
    samples = np.concatenate(blocks) if blocks else np.zeros((0, 1), np.int16)
    return Decoded(samples=samples, rate=rate, skipped=skipped, problem=problem)


def _frames(container: InputContainer, stream: AudioStream, damages: list[str]) -> Iterator[AudioFrame]:
    """Decode packet by packet. A packet that can't be decoded is left out, and adds its reason to `damages`."""
    import av

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            damages.append(one_line(error.strerror))
        else:
            yield from frames


def _scaled(samples: NDArray[Any]) -> NDArray[np.int16 | np.float32]:
    """int16 unchanged, int32 as float32 with a full scale of 1.0."""
    return samples if samples.dtype == np.int16 else samples.astype(np.float32) * np.float32(2**-31)


def _has_times(container: InputContainer) -> bool:
    return any(name in _TIMED_CONTAINERS for name in container.format.name.split(","))


def _declared_seconds(container: InputContainer, stream: AudioStream) -> float:
    """The length of the audio stream by the container; 0 if it has none."""
    import av

    if not _has_times(container):
        return 0.0
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    # That of the container is the longest stream's.
    return (container.duration or 0) / av.time_base if len(container.streams) == 1 else 0.0
