"""Recognize speech with NVIDIA NeMo models that a Triton server serves.

Example:
    >>> from nemo_triton import Recognizer, load_audio
    >>> with Recognizer("stt_en_citrinet_512") as recognizer:
    ...     print(recognizer.transcribe(load_audio("order.wav")).text)
    two large coffees please

Blocking and asyncio: `Recognizer`, `AsyncRecognizer`. What a server has: `list_recognizers`. Audio and lists of it:
`load_audio`, `find_audio`, `read_manifest`. Every error is a `ClientError`.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

# Before gRPC is imported: it prints each failed handshake to stderr, which the errors raised already tell.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

if TYPE_CHECKING:
    from nemo_triton.audio import Samples, load_audio
    from nemo_triton.contract import SAMPLE_RATE
    from nemo_triton.errors import (
        AudioError,
        ClientError,
        DeadlineExceededError,
        ManifestError,
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

    __version__: str

# Imported when they are used: exports take the contract from this package and need no gRPC for that.
_NAMES_BY_MODULE = {
    "audio": ("Samples", "load_audio"),
    "contract": ("SAMPLE_RATE",),
    "errors": (
        "AudioError",
        "ClientError",
        "DeadlineExceededError",
        "ManifestError",
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
}
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def _version() -> str:
    # Not at the top: looking it up takes longer than everything else in this file.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nemo-triton")
    except PackageNotFoundError:  # The sources alone, as in an image.
        return "unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AsyncRecognizer",
    "AudioError",
    "ClientError",
    "DeadlineExceededError",
    "Manifest",
    "ManifestError",
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
    "read_manifest",
]
