"""Read audio files as the samples that a request carries: int16, 16 kHz, mono."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from nemo_triton.contract import INT16_FULL_SCALE, SAMPLE_RATE
from nemo_triton.errors import AudioError, one_line

Samples: TypeAlias = NDArray[np.int16]
"""int16 [T], 16 kHz, mono."""

LARGEST_SAMPLES = 2**29
"""Samples in a file, all channels together, and after resampling: 9 hours of mono at 16 kHz, 1 GiB as int16.

A small file can claim more, or become more, than fits in memory.
"""


def load_audio(path: str | Path) -> Samples:
    """Read an audio file as 16 kHz mono samples.

    The samples of a 16-bit 16 kHz mono file are returned unchanged. Other files are converted: the channels are
    averaged, the audio is resampled (soxr HQ) and rounded to 16 bits, and samples beyond full scale are clipped.

    Args:
        path: An audio file in any format that libsndfile reads: WAV, FLAC, OGG, MP3 and others.

    Returns:
        int16 [T] at 16 kHz; T is 0 if the file has a header but no samples.

    Raises:
        AudioError: The file is missing, empty, unreadable or not audio, or contains NaN or infinite samples.

    Example:
        >>> samples = load_audio("order.wav")
        >>> len(samples) / SAMPLE_RATE
        3.2
    """
    path = Path(path)
    try:
        _check_is_file(path)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    try:
        with soundfile.SoundFile(path) as file:
            native = file.subtype == "PCM_16" and file.samplerate == SAMPLE_RATE and file.channels == 1
            samples = _read(file, path, native=native)
            rate = int(file.samplerate)
    # soundfile raises TypeError for .raw files: they have no header with rate and sample format.
    except (soundfile.LibsndfileError, TypeError) as error:
        reason = one_line(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(".")
        raise AudioError(f"{path}: not readable as audio ({reason}); convert it to WAV or FLAC") from error
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); change its permissions") from error
    return np.asarray(samples, np.int16) if native else _convert(samples, rate, path)


def seconds(samples: Samples) -> float:
    """Duration in seconds of 16 kHz samples [T]."""
    return len(samples) / SAMPLE_RATE


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


def _read(file: soundfile.SoundFile, path: Path, *, native: bool) -> NDArray[np.generic]:
    """Read all samples.

    Args:
        file: The open file.
        path: Its path, for errors.
        native: Whether to read samples as they are.

    Returns:
        int16 [T] if native, else float32 [T, channels], full scale 1.0.
    """
    # The number in the header decides how much memory is allocated. Streams, such as ffmpeg's FLAC, have none.
    if file.frames * file.channels > LARGEST_SAMPLES:
        raise AudioError(
            f"{path}: has more than {LARGEST_SAMPLES:,} samples, or a header without their number; split it, or "
            "convert it to WAV"
        )
    # Files in GSM 6.10 are not read without their number of samples.
    samples: NDArray[np.generic] = file.read(file.frames, dtype="int16" if native else "float32", always_2d=not native)
    return samples


def _convert(samples: NDArray[np.generic], rate: int, path: Path) -> Samples:
    """Convert float samples [T, channels], full scale 1.0, at `rate` Hz to int16 [T'] at 16 kHz."""
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds NaN or infinite samples; write it again from its source")
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE and len(mono):
        if len(mono) * SAMPLE_RATE > LARGEST_SAMPLES * rate:
            raise AudioError(
                f"{path}: has more than {LARGEST_SAMPLES:,} samples at 16 kHz, its rate is {rate} Hz; split it, or "
                "write it again with its true rate"
            )
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    scaled: NDArray[np.float32] = np.rint(np.asarray(mono, np.float32) * INT16_FULL_SCALE)
    # Clip before the cast to int16, which would wrap values beyond full scale to the other sign.
    return scaled.clip(-INT16_FULL_SCALE, INT16_FULL_SCALE - 1).astype(np.int16)
