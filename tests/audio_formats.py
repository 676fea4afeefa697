"""Write a recording in the formats that people have."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE = 16000
Signal = NDArray[np.float32]

ENCODED = {
    "phone.m4a": ("aac", 44100, "mp4"),
    "phone.mp4": ("aac", 48000, "mp4"),
    "phone.amr": ("libopencore_amrnb", 8000, "amr"),
    "browser.webm": ("libopus", 48000, "webm"),
    "raw.aac": ("aac", 44100, "adts"),
    "windows.wma": ("wmav2", 44100, "asf"),
    "video.mkv": ("libopus", 48000, "matroska"),
}
"""Formats that only FFmpeg writes: name -> codec, sample rate, container."""


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


def encode(samples: Signal, path: Path, *, codec: str, rate: int, container: str) -> None:
    """Write a file by FFmpeg's encoders.

    Args:
        samples: float32 [T], 16 kHz.
        path: The file.
        codec: FFmpeg's name of the encoder.
        rate: Sample rate of the file.
        container: FFmpeg's name of the format.
    """
    with av.open(path, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 12_200 if container == "amr" else 64_000
        stream.codec_context.open()
        source = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        source.sample_rate, source.time_base, source.pts = RATE, Fraction(1, RATE), 0
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, "mono", rate, frame_size=context.frame_size)
        for frame in [*resampler.resample(source), *resampler.resample(None)]:
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
