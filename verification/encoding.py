"""Write audio by FFmpeg's encoders, for formats that libsndfile doesn't write."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from nemo_triton.contract import SAMPLE_RATE

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


def encode(
    samples: NDArray[np.float32],
    file: Path | BinaryIO,
    *,
    codec: str,
    rate: int,
    container: str,
    layout: Literal["mono", "stereo"] = "mono",
) -> None:
    """Write a file.

    Args:
        samples: float32 [T], 16 kHz.
        file: Path of the file, or a binary file that can be sought.
        codec: FFmpeg's name of the encoder.
        rate: Sample rate of the file.
        container: FFmpeg's name of the format.
        layout: Channels of the file, which are all equal.
    """
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 12_200 if container == "amr" else 64_000
        stream.codec_context.open()
        add_samples(output, stream, samples, rate=SAMPLE_RATE)


def add_samples(output: OutputContainer, stream: Any, samples: NDArray[np.float32], *, rate: int) -> None:
    """Encode samples as the content of a stream whose codec is open.

    Args:
        output: The file.
        stream: The stream.
        samples: float32 [T].
        rate: Their sample rate, which may differ from the stream's.
    """
    source = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    source.sample_rate, source.time_base, source.pts = rate, Fraction(1, rate), 0
    context = stream.codec_context
    resampler = av.AudioResampler(context.format, context.layout, context.sample_rate, frame_size=context.frame_size)
    for frame in [*resampler.resample(source), *resampler.resample(None)]:
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
