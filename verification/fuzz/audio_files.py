"""Mutated audio files of all formats, as hypothesis strategies."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import soundfile
from hypothesis import strategies as st

from nemo_triton.contract import SAMPLE_RATE
from verification.encoding import ENCODED, encode
from verification.fuzz.inputs import Input

LIBSNDFILE = {
    "wav": ("WAV", ("PCM_16", "FLOAT", "ULAW", "MS_ADPCM", "IMA_ADPCM", "GSM610", "G721_32")),
    "flac": ("FLAC", ("PCM_16", "PCM_24")),
    "ogg": ("OGG", ("VORBIS", "OPUS")),
    "opus": ("OGG", ("OPUS",)),
    "mp3": ("MP3", ("MPEG_LAYER_III",)),
    "aiff": ("AIFF", ("PCM_24",)),
    "au": ("AU", ("PCM_16",)),
    "caf": ("CAF", ("ALAC_16",)),
    "w64": ("W64", ("DOUBLE",)),
    "rf64": ("RF64", ("PCM_16",)),
    "sph": ("NIST", ("PCM_16",)),
    "voc": ("VOC", ("PCM_16",)),
    "wave": ("WAVEX", ("PCM_32",)),
}
"""libsndfile's format and subtypes, by file suffix."""
FFMPEG = {name.rpartition(".")[2]: encoding for name, encoding in ENCODED.items()}
"""FFmpeg's codec, rate and container, by file suffix."""
_MONO = ("IMA_ADPCM", "GSM610", "G721_32", "ALAC_16")
"""Subtypes that are written with one channel: some know no more."""
_SAMPLES = 2000
_OTHER_SUFFIXES = ("raw", "txt", "m3u8", "zip")
_HEADER_BYTES = 128
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)
_NUMBERS = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, 44_100, 192_000)


@cache
def valid_audio(container: str, subtype: str, channels: int) -> bytes:
    """A short noise as the bytes of an audio file that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, _noise(channels), SAMPLE_RATE, format=container, subtype=subtype)
    return file.getvalue()


@cache
def encoded_audio(suffix: str) -> bytes:
    """A short noise as the bytes of an audio file that FFmpeg writes."""
    codec, rate, container = FFMPEG[suffix]
    file = io.BytesIO()
    encode(_noise(1)[:, 0].astype(np.float32), file, codec=codec, rate=rate, container=container)
    return file.getvalue()


def _noise(channels: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.random.default_rng(0).standard_normal((_SAMPLES, channels)) / 10


@st.composite
def whole_audio(draw: st.DrawFn) -> tuple[str, bytes]:
    """The suffix and content of a valid file of any format."""
    suffix = draw(st.sampled_from([*LIBSNDFILE, *FFMPEG]))
    if suffix in FFMPEG:
        return suffix, encoded_audio(suffix)
    container, subtypes = LIBSNDFILE[suffix]
    subtype = draw(st.sampled_from(subtypes))
    return suffix, valid_audio(container, subtype, 1 if subtype in _MONO else draw(st.sampled_from((1, 2))))


@st.composite
def mutated_audio(draw: st.DrawFn) -> tuple[str, bytes]:
    """The suffix and content of a file: audio with mutations, mostly of its header, or random bytes."""
    suffix, whole = draw(whole_audio())
    if draw(st.integers(0, 9)) == 0:
        suffix = draw(st.sampled_from([suffix, *LIBSNDFILE, *FFMPEG, *_OTHER_SUFFIXES]))
    if draw(st.integers(0, 19)) == 0:
        return suffix, draw(st.binary(max_size=400))
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        _mutate(content, draw)
    return suffix, bytes(content)


def _mutate(content: bytearray, draw: st.DrawFn) -> None:
    kind = draw(st.sampled_from(("bytes", "bytes", "number", "number", "bit", "cut", "join", "remove", "repeat")))
    in_header = draw(st.booleans())
    place = draw(st.integers(0, max(min(_HEADER_BYTES, len(content)) if in_header else len(content), 1) - 1))
    if kind == "bytes":
        for position in range(place, min(place + draw(st.sampled_from((1, 2, 4, 8))), len(content))):
            content[position] = draw(st.sampled_from(_EDGES) | st.integers(0, 255))
    elif kind == "number":
        size = draw(st.sampled_from((2, 4, 8)))
        number = draw(st.sampled_from(_NUMBERS)) % 2 ** (8 * size)
        content[place : place + size] = number.to_bytes(size, draw(st.sampled_from(("little", "big"))))
    elif kind == "bit" and content:
        content[place] ^= 1 << draw(st.integers(0, 7))
    elif kind == "cut":
        del content[draw(st.integers(0, len(content))) :]
    elif kind == "join":
        content += draw(st.just(bytes(content)) | whole_audio().map(lambda file: file[1]))
    elif kind == "remove":
        del content[place : place + draw(st.integers(1, 600))]
    elif kind == "repeat":
        content[place:place] = content[place : place + draw(st.integers(1, 600))]


_SECONDS = st.sampled_from((0.0, 0.01, 0.06, 0.125, 1.0, 3600.0, 1e18, 1e305)) | st.floats(0, 0.2)
_ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(("average", "left", "right", 0, 1, 2, 10**30)),
        "offset": _SECONDS,
        "duration": st.none() | _SECONDS,
    },
)


def audio_inputs() -> st.SearchStrategy[Input]:
    """Mutated audio files, with the segment and channel to read."""
    return st.builds(lambda file, arguments: Input.of(*file, **arguments), mutated_audio(), _ARGUMENTS)
