"""Transcribe speech with NVIDIA NeMo models on a Triton server.

Example:
    >>> from nemo_triton import Recognizer, load_audio
    >>> with Recognizer("stt_en_citrinet_512") as recognizer:
    ...     print(recognizer.transcribe(load_audio("order.wav")).text)
    two large coffees please

Connect to a server:
    Recognizer          blocking; threads can share it
    AsyncRecognizer     the same for asyncio
    list_recognizers    the names of the recognizers that a server serves
    Tls                 certificates for a server with TLS

Read recordings:
    load_audio          an audio file as samples at 16 kHz
    load_channels       the same for each channel of a file
    load_utterance      the same for an entry of a manifest, which can be a segment
    load_utterance_channels
                        the same for each channel of an entry
    find_audio          the recordings in files, folders and manifests
    read_manifest       the recordings and reference texts in a manifest

Every error derives from ClientError, and its message is one line. The package logs to `nemo_triton.endpoints` when a
server goes down, is ejected or recovers, and to `nemo_triton.audio` when a file is damaged.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

# Set before gRPC is imported. gRPC would print each failed handshake to stderr; our errors already report it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

if TYPE_CHECKING:
    from nemo_triton.audio import Channel, Samples, load_audio, load_channels
    from nemo_triton.contract import SAMPLE_RATE
    from nemo_triton.errors import (
        AudioError,
        ClientError,
        DeadlineExceededError,
        ManifestError,
        QueueFullError,
        RecognitionError,
        RecognizerError,
        ServerUnavailableError,
        TlsError,
        UnavailableError,
        UnknownModelError,
    )
    from nemo_triton.manifest import Manifest, Utterance, find_audio, read_manifest
    from nemo_triton.recognizer import AsyncRecognizer, Recognizer, list_recognizers
    from nemo_triton.served_model import ServedModel
    from nemo_triton.tls import Tls
    from nemo_triton.transcript import Transcript
    from nemo_triton.utterances import load_utterance, load_utterance_channels

    __version__: str

# Imported on first use, because the export imports the contract from this package and has no gRPC.
_NAMES_BY_MODULE = {
    "audio": ("Channel", "Samples", "load_audio", "load_channels"),
    "contract": ("SAMPLE_RATE",),
    "errors": (
        "AudioError",
        "ClientError",
        "DeadlineExceededError",
        "ManifestError",
        "QueueFullError",
        "RecognitionError",
        "RecognizerError",
        "ServerUnavailableError",
        "TlsError",
        "UnavailableError",
        "UnknownModelError",
    ),
    "manifest": ("Manifest", "Utterance", "find_audio", "read_manifest"),
    "recognizer": ("AsyncRecognizer", "Recognizer", "list_recognizers"),
    "served_model": ("ServedModel",),
    "tls": ("Tls",),
    "transcript": ("Transcript",),
    "utterances": ("load_utterance", "load_utterance_channels"),
}
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def _version() -> str:
    # Not imported at the top: importlib.metadata is slower than the rest of this file.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nemo-triton")
    except PackageNotFoundError:  # The sources run without installation, as in a container image.
        return "unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AsyncRecognizer",
    "AudioError",
    "Channel",
    "ClientError",
    "DeadlineExceededError",
    "Manifest",
    "ManifestError",
    "QueueFullError",
    "RecognitionError",
    "Recognizer",
    "RecognizerError",
    "SAMPLE_RATE",
    "Samples",
    "ServedModel",
    "ServerUnavailableError",
    "Tls",
    "TlsError",
    "Transcript",
    "UnavailableError",
    "UnknownModelError",
    "Utterance",
    "__version__",
    "find_audio",
    "list_recognizers",
    "load_audio",
    "load_channels",
    "load_utterance",
    "load_utterance_channels",
    "read_manifest",
]
