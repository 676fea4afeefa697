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
from importlib.metadata import PackageNotFoundError, version

# Before gRPC is imported: it prints each failed handshake to stderr, which the errors raised already tell.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from nemo_triton.audio import SAMPLE_RATE, Samples, load_audio
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

try:
    __version__ = version("nemo-triton")
except PackageNotFoundError:  # The sources alone, as in an image.
    __version__ = "unknown"

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
