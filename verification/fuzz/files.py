"""Files that readers get: valid ones with mutations, and random bytes, as hypothesis strategies."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import Any

import numpy as np
import soundfile
from hypothesis import strategies as st

from nemo_triton.contract import SAMPLE_RATE

AUDIO_FORMATS = {
    "wav": ("WAV", ("PCM_16", "FLOAT", "ULAW", "MS_ADPCM", "GSM610")),
    "flac": ("FLAC", ("PCM_16",)),
    "ogg": ("OGG", ("VORBIS", "OPUS")),
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
_HEADER_BYTES = 128
_EDGES = (0, 1, 0x7F, 0x80, 0xFF)


@cache
def valid_audio(container: str, subtype: str, channels: int) -> bytes:
    """A short noise as the bytes of an audio file."""
    noise = np.random.default_rng(0).standard_normal((2000, channels)) / 10
    file = io.BytesIO()
    soundfile.write(file, noise, SAMPLE_RATE, format=container, subtype=subtype)
    return file.getvalue()


@st.composite
def audio_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file's suffix and content: audio whose header has changed bytes and which may be cut, or random bytes."""
    suffix = draw(st.sampled_from([*AUDIO_FORMATS, "raw", "txt"]))
    container, subtypes = AUDIO_FORMATS.get(suffix, ("WAV", ("PCM_16",)))
    if draw(st.integers(0, 9)) == 0:
        return suffix, draw(st.binary(max_size=400))
    # Opus and GSM know few formats.
    content = bytearray(valid_audio(container, draw(st.sampled_from(subtypes)), 1 if suffix in ("wav", "caf") else 2))
    edge = st.sampled_from(_EDGES) | st.integers(0, 255)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, min(_HEADER_BYTES, len(content) - 1)))
        for place in range(start, min(start + draw(st.sampled_from((1, 1, 2, 4, 8))), len(content))):
            content[place] = draw(edge)
    if draw(st.integers(0, 3)) == 0:
        del content[draw(st.integers(0, len(content))) :]
    return suffix, bytes(content)


_NAMES = st.sampled_from(
    ["audio_filepath", "filename", "text", "transcript", "duration", "offset", "", "x", " text", "\ufeffaudio_filepath"]
)
_TEXTS = st.sampled_from(
    [
        *("a.wav", "/tmp/a.wav", "~/a.wav", "~nobody-here/a.wav", "..", ".", "", " ", "a\0b", "a\nb", "\x1b[2Ja"),
        *("\ud800", "\udc80", "\U0001f600", "\u2028", "a/" * 40_000, "x" * 300, "C:\\a.wav", "NaN", "1e999"),
    ]
) | st.text(max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([10**400, -(10**300), 2**63]) | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)
_LINES = st.dictionaries(_NAMES, _TEXTS | _JSON, max_size=4).map(json.dumps)
_BROKEN_LINES = st.sampled_from(
    ["", "[]", "[" * 100_000, '{"a":' * 5000, "null", "{", '{"audio_filepath": "a", "duration": ' + "9" * 5000 + "}"]
)


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """A manifest's content: JSON lines, CSV or neither, with changed bytes and encodings."""
    kind = draw(st.integers(0, 9))
    if kind < 6:
        lines = draw(st.lists(_LINES | _BROKEN_LINES, max_size=4))
        text = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"])).join(
            ['{"audio_filepath": "a.wav", "text": "b"}', *lines]
        )
    elif kind < 9:
        cells = st.lists(_TEXTS.filter(lambda text: len(text) < 1000), max_size=4)
        rows = draw(st.lists(cells.map(",".join), max_size=4))
        header = draw(
            st.sampled_from(["filename,transcript", '"filename"', "audio_filepath,text,duration,offset", "x"])
        )
        text = "\n".join([header, *rows])
    else:
        return draw(st.binary(max_size=200))
    content = text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"])), "surrogatepass")
    if draw(st.integers(0, 3)) == 0 and content:
        place = draw(st.integers(0, len(content) - 1))
        content = content[:place] + draw(st.binary(max_size=4)) + content[place + draw(st.integers(0, 2)) :]
    return content


def mutated_json_lines(lines: list[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """JSON lines in which some values, at any depth, are replaced or missing."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        rows: list[Any] = json.loads(json.dumps(lines))
        for _ in range(draw(st.integers(0, 3))):
            container, key = draw(st.sampled_from(list(_places(rows))))
            if not (key in container if isinstance(container, dict) else key < len(container)):
                continue
            if draw(st.booleans()):
                container[key] = draw(_JSON)
            else:
                del container[key]
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        if draw(st.integers(0, 5)) == 0 and content:
            place = draw(st.integers(0, len(content) - 1))
            content = content[:place] + draw(st.binary(max_size=4) | st.just(b"[" * 100_000)) + content[place + 1 :]
        return content

    return build()


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


_PEM = (
    b"-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ1Y=\n-----END CERTIFICATE-----\n",
    b"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQ==\n-----END PRIVATE KEY-----\n",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBvTBX\n-----END ENCRYPTED PRIVATE KEY-----\n",
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----BEGIN \0-----\n",
)


def pem_files() -> st.SearchStrategy[bytes]:
    """The content of a PEM file: blocks that hold no certificate, and random bytes."""
    return st.lists(st.sampled_from(_PEM) | st.binary(max_size=60), max_size=4).map(b"".join)
