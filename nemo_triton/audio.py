"""Read audio files as the samples that a request carries: 16 kHz, mono, int16 or float32.

The samples are those of NeMo's `transcribe([path])`: its AudioSegment reads a file as float32 and resamples it by soxr.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from nemo_triton.audio_decoders import Decoded, Segment, decode, decode_segment, limits, read_header
from nemo_triton.contract import INT16_FULL_SCALE, SAMPLE_RATE
from nemo_triton.errors import AudioError, printable

Samples: TypeAlias = NDArray[np.int16 | np.float32]
"""[T], 16 kHz, mono: int16, or float32 with a full scale of 1.0."""
Channel: TypeAlias = int | Literal["average", "left", "right"]
"""A channel's number, from 0; left is 0 and right is 1. "average" is the mean of all channels."""

LOG_NAME = "nemo_triton.audio"
"""Logger that gets a warning for each file with samples that are incomplete or cancel each other.

The attribute `kind` of a record names what files have the same problem, such as "files without samples".
"""
_log = logging.getLogger(LOG_NAME)

_CHANNEL_NUMBERS = {"left": 0, "right": 1}
_CANCELLED = 0.1
"""Energy of the average, as a fraction of the channels' mean energy, below which they cancel each other. Two different
talkers have 0.5; of many channels, a single talker has 1 / channels, and half of that is the limit."""
_NOTHING_SECONDS, _MUCH_BYTES = 0.1, 2**14
"""A damaged file of more bytes that has less audio is not what its decoder takes it for, or is lost."""
_FRAMES_PER_BLOCK = 2**18
_DURATION_TOLERANCE = 0.1
"""Seconds by which a segment may end before its duration: durations in manifests are rounded."""


def load_audio(
    path: str | Path, *, channel: Channel = "average", offset: float = 0.0, duration: float | None = None
) -> Samples:
    """Read an audio file as 16 kHz mono samples.

    The samples of a 16-bit 16 kHz file are returned unchanged, as int16, if it is mono or one channel is chosen. All
    others are float32, because rounding to 16 bits would change the text of quiet, loud or telephone speech.

    If a file is cut off or damaged, its readable samples are returned, and the logger `nemo_triton.audio` gets a
    warning.

    Args:
        path: An audio file in any format that libsndfile or FFmpeg reads: WAV, FLAC, OGG, MP3, M4A, WebM and others.
        channel: The channel to read. "average" averages all channels, as NeMo does; use a channel's number for a call
            with a talker on each side.
        offset: Start of the segment to read, in seconds.
        duration: Length of the segment in seconds; None or 0 reads to the end.

    Returns:
        int16 [T], or float32 [T] with a full scale of 1.0, at 16 kHz; T is 0 if the file has a header but no samples.

    Raises:
        AudioError: The file is missing, empty, unreadable or not audio, has no such channel or segment, or contains NaN
            or infinite samples.
        ValueError: `channel` names no channel, or `offset` or `duration` is no length of time.

    Example:
        >>> samples = load_audio("order.wav")
        >>> len(samples) / SAMPLE_RATE
        3.2
    """
    path = Path(path)
    decoded = _read_segment(path, offset, duration)
    return _at_16_khz(_select(decoded.samples, channel, path), decoded.rate, path)


def load_channels(path: str | Path, *, offset: float = 0.0, duration: float | None = None) -> list[Samples]:
    """Read each channel of an audio file as `load_audio` does.

    Args:
        path: An audio file.
        offset: Start of the segment to read, in seconds.
        duration: Length of the segment in seconds; None or 0 reads to the end.

    Returns:
        The samples of each channel.

    Raises:
        AudioError: See `load_audio`.
    """
    path = Path(path)
    decoded = _read_segment(path, offset, duration)
    channels = range(decoded.samples.shape[1])
    return [_at_16_khz(_select(decoded.samples, number, path), decoded.rate, path) for number in channels]


def bytes_per_sample(path: str | Path, *, channel: Channel = "average") -> int:
    """Size of each sample that `load_audio` returns, by the header of the file.

    Args:
        path: An audio file.
        channel: The channel to read.

    Returns:
        2 for int16, 4 for float32. 2 if the file can't be opened, and 4 if FFmpeg decodes it, although the samples of a
        16 kHz mono AAC are int16.
    """
    path = Path(path)
    try:
        _check_is_file(path)
        header = read_header(path)
    except (AudioError, OSError):
        return np.dtype(np.int16).itemsize
    if header is None or not header.is_16_bit or header.rate != SAMPLE_RATE:
        return np.dtype(np.float32).itemsize
    is_averaged = header.channels > 1 and channel_number(channel) is None
    return np.dtype(np.float32 if is_averaged else np.int16).itemsize


def as_float(samples: Samples) -> NDArray[np.float32]:
    """Convert samples [T] to float32 with a full scale of 1.0; float samples are returned unchanged."""
    if samples.dtype == np.int16:
        return samples * np.float32(1 / INT16_FULL_SCALE)
    return np.asarray(samples, np.float32)


def join(signals: Iterable[Samples]) -> Samples:
    """Join samples [T] end to end: int16 if all are, otherwise float32 with a full scale of 1.0."""
    signals = list(signals)
    if all(samples.dtype == np.int16 for samples in signals):
        return np.concatenate(signals)
    return np.concatenate([as_float(samples) for samples in signals])


def channel_number(channel: Channel) -> int | None:
    """Return the number of a channel, from 0; None for the average of all.

    Raises:
        ValueError: `channel` is something else.
    """
    if channel == "average":
        return None
    number = _CHANNEL_NUMBERS.get(channel, channel) if isinstance(channel, str) else channel
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
        raise ValueError(f"channel is {channel!r}; give a number from 0, or left, right or average")
    return int(number)


def seconds(samples: Samples) -> float:
    """Duration in seconds of 16 kHz samples [T]."""
    return len(samples) / SAMPLE_RATE


def _read_segment(path: Path, offset: float, duration: float | None) -> Decoded:
    for name, value in (("offset", offset), ("duration", duration)):
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value:g}; give seconds from 0")
    try:
        _check_is_file(path)
        segment = Segment(offset=offset, duration=duration)
        exact = decode_segment(path, segment) if segment else None
        if exact is not None:
            return exact
        return _cut(decode(path, segment), segment, path)
    except OSError as error:
        # Errors of opening have the name of the file, those of reading don't.
        advice = "check the path and its permissions" if error.filename else "check its disk, or copy it again"
        raise AudioError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    except MemoryError as error:
        raise AudioError(f"{path}: too long for the memory of this machine; split it") from error


def _cut(decoded: Decoded, segment: Segment, path: Path) -> Decoded:
    """The segment of what was decoded of its file. Warnings say what is missing."""
    rate, skipped = decoded.rate, decoded.skipped
    length = decoded.end / rate
    start, stop = segment.start(rate), segment.stop(rate)
    if start and start >= decoded.end:
        reason = f" ({decoded.problem})" if decoded.problem else ""
        raise AudioError(
            f"{path}: offset {segment.offset:g} s is beyond its end at {length:.1f} s{reason}; correct the offset"
        )
    if decoded.problem and length < _NOTHING_SECONDS and (size := path.stat().st_size) > _MUCH_BYTES:
        # For example samples without a header, in which FFmpeg saw a frame of another format.
        raise AudioError(
            f"{path}: only {length:.2f} s of its {size:,} bytes can be decoded; record or copy it "
            "again, or, if it has samples without a header, write it as WAV"
        )
    if decoded.note:
        _warn(path, decoded.note, "files with several audio streams")
    if decoded.problem:
        used = "what can be read of the segment is" if segment else f"the {length:.1f} s that can be read are"
        _warn(path, f"{decoded.problem}; {used} used", "incomplete files")
    elif not decoded.end:
        _warn(path, "has no samples; record or copy it again", "files without samples")
    missing = stop / rate - length if segment.duration else 0.0
    if missing > _DURATION_TOLERANCE:
        end = f"offset {segment.offset:g} s, duration {segment.duration:g} s"
        _warn(path, f"ends {missing:.1f} s before the segment's end ({end})", "files that end before their segment")
    return Decoded(samples=decoded.samples[start - skipped : stop - skipped], rate=rate)


def _check_is_file(path: Path) -> None:
    """Raise a clear error where libsndfile reports only "System error" or an unknown format."""
    if path.is_dir():
        raise AudioError(f"{path}: is a folder, not an audio file; give a file in it")
    if not path.exists():
        raise AudioError(f"{path}: no such file; check the path")
    if not path.is_file():
        # A pipe without a writer would block its reader, and a device never ends.
        raise AudioError(f"{path}: is a pipe or a device, not an audio file; write its content to a file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); record or copy it again")


def _select(samples: Samples, channel: Channel, path: Path) -> Samples:
    """Turn [T, channels] into [T]."""
    count = samples.shape[1]
    number = channel_number(channel)
    if number is None and count == 1:
        number = 0
    if number is None:
        average, energy = _average(_finite(samples, path))
        kept = np.square(average, dtype=np.float64).mean() if len(average) else 0.0
        if kept < min(_CANCELLED, 0.5 / count) * energy:
            advice = "choose one with --channel or a manifest's channel field"
            problem = f"its {count} channels cancel each other when averaged; {advice}"
            _warn(path, problem, "files with channels that cancel each other")
        return average
    if number >= count:
        channels = "1 channel (mono)" if count == 1 else f"{count} channels"
        raise AudioError(f"{path}: has {channels}, so there is no channel {number} (the first is 0); choose another")
    return _finite(samples[:, number], path)


def _average(samples: Samples) -> tuple[NDArray[np.float32], float]:
    """The mean of the channels [T, channels] as [T], and the mean energy of all their samples.

    In blocks: copies of hours of audio would be larger than the audio.
    """
    average = np.empty(len(samples), np.float32)
    energy = 0.0
    for start in range(0, len(samples), _FRAMES_PER_BLOCK):
        block = as_float(samples[start : start + _FRAMES_PER_BLOCK])
        average[start : start + _FRAMES_PER_BLOCK] = block.mean(axis=1)
        # In float64: the power of large float samples overflows float32.
        energy += float(np.square(block, dtype=np.float64).sum())
    return average, energy / max(samples.size, 1)


def _finite(samples: Samples, path: Path) -> Samples:
    if samples.dtype != np.int16 and not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds NaN or infinite samples; write it again from its source")
    return samples


def _at_16_khz(samples: Samples, rate: int, path: Path) -> Samples:
    """Resample [T] as NeMo does: soxr's HQ, the length rounded up (librosa.resample)."""
    if rate == SAMPLE_RATE or not len(samples):
        return samples if samples.flags.c_contiguous else samples.copy()
    if len(samples) * SAMPLE_RATE > limits.LARGEST_SAMPLES * rate:
        raise AudioError(
            f"{path}: has more than {limits.LARGEST_SAMPLES:,} samples at 16 kHz, its rate is {rate} Hz; split "
            "it, or write it again with its true rate"
        )
    resampled = soxr.resample(as_float(samples), rate, SAMPLE_RATE, quality="HQ")
    length = math.ceil(len(samples) * (SAMPLE_RATE / rate))
    fitted = np.zeros(length, np.float32)
    fitted[: len(resampled)] = resampled[:length]
    return fitted


def _warn(path: Path, problem: str, kind: str) -> None:
    _log.warning(printable(f"{path}: {problem}"), extra={"kind": kind})
