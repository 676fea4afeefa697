"""Write a recording in the formats that people have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from verification.encoding import ENCODED, encode

RATE = 16000
Signal = NDArray[np.float32]


def write_all(samples: Signal, folder: Path) -> list[Path]:
    """Write one recording in every format.

    Args:
        samples: float32 [T], 16 kHz, full scale 1.0.
        folder: Folder for the files; created if needed.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    telephone = soxr.resample(samples, RATE, 8000)
    studio = soxr.resample(samples, RATE, 44100)
    written = {
        "16_bit.wav": (samples, RATE, "PCM_16"),
        "24_bit.wav": (samples, RATE, "PCM_24"),
        "float_at_a_thousandth.wav": (samples * np.float32(1e-3), RATE, "FLOAT"),
        "float_in_int16_units.wav": (samples * np.float32(32767), RATE, "FLOAT"),
        "8_khz_mu_law.wav": (telephone, 8000, "ULAW"),
        "8_khz_gsm.wav": (telephone, 8000, "GSM610"),
        "8_khz_16_bit.wav": (telephone, 8000, "PCM_16"),
        "44_khz_stereo.flac": (np.stack([studio, 0.8 * studio], axis=1), 44100, "PCM_16"),
        "music.mp3": (samples, RATE, "MPEG_LAYER_III"),
        "messenger.opus": (samples, RATE, "OPUS"),
    }
    files = []
    for name, (signal, rate, subtype) in written.items():
        files.append(folder / name)
        container = "OGG" if name.endswith(".opus") else None
        soundfile.write(files[-1], signal, rate, subtype=subtype, format=container)
    for name, (codec, rate, container) in ENCODED.items():
        files.append(folder / name)
        encode(samples, files[-1], codec=codec, rate=rate, container=container)
    return files
