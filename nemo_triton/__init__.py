"""Recognize speech with NVIDIA NeMo recognizers that a Triton server has.

from nemo_triton import Recognizer, load_audio

with Recognizer("stt_en_citrinet_512") as recognizer:
    print(recognizer.transcribe(load_audio("order.wav")).text)
"""

import os
from importlib.metadata import PackageNotFoundError, version

# Before gRPC is imported: it writes lines about each failed handshake to stderr, and the errors raised tell as much.
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
from nemo_triton.manifest import Utterance, find_audio, read_manifest
from nemo_triton.protocol import ServedModel, Transcript
from nemo_triton.recognizer import AsyncRecognizer, Recognizer, list_recognizers
from nemo_triton.tls import Tls

try:
    __version__ = version("nemo-triton")
except PackageNotFoundError:  # The sources alone, as in an image.
    __version__ = "unknown"

__all__ = [
    "AsyncRecognizer",
    "AudioError",
    "ClientError",
    "DeadlineExceededError",
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
