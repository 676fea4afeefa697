"""Audio files as the client would send them. The client has its own: no code crosses from one to the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

from export_scripts.errors import ExportError
from export_scripts.verify.recordings import SAMPLE_RATE

FULL_SCALE = 32_768
# libsndfile names formats, not file endings. RAW is left out: nothing in such a file says how to read it.
SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
SUFFIXES |= {".mp3", ".oga", ".opus", ".aif", ".wave", ".snd", ".sph"}


def audio_files(folder: Path) -> list[Path]:
    """Files of a folder whose ending is one of a format that libsndfile reads, sorted. Hidden ones are left out."""
    return sorted(
        file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )


def load_samples(file: Path) -> np.ndarray:
    """int16 samples [T] at 16 kHz, channels averaged; 16-bit 16 kHz mono files as they are, others resampled.

    Raises ExportError, naming the file, where it is no audio or has no samples.
    """
    try:
        with soundfile.SoundFile(file) as audio:
            rate = audio.samplerate
            native = audio.subtype == "PCM_16" and rate == SAMPLE_RATE and audio.channels == 1
            samples: np.ndarray = audio.read(dtype="int16" if native else "float32", always_2d=not native)
    # soundfile raises TypeError for a name that ends in .raw.
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError) as error:
        reason = " ".join(str(getattr(error, "error_string", error)).split()).rstrip(".")
        missing = (
            "no such file" if not file.exists() else f"can't be read as audio ({reason}); convert it to WAV or FLAC"
        )
        raise ExportError(f"{file}: {missing}") from error
    if not len(samples):
        raise ExportError(f"{file}: holds no samples; leave it out")
    if native:
        return samples
    if not np.isfinite(samples).all():
        raise ExportError(f"{file}: holds NaN or infinite samples; write it again from its source")
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    scaled = np.rint(np.asarray(mono, np.float32) * FULL_SCALE)
    # Clipped while still float: an int16 cast of a value beyond full scale would wrap to the other sign.
    return scaled.clip(-FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
